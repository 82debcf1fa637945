"""Samples of which one value may stand for several: tens of millions of gaps as the cells of a fine histogram. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    values: FloatArray
    """Ascending."""
    up_to: FloatArray | None
    """Shape as `values`: samples up to and with each; None where each value is one."""

    @property
    def n(self) -> int:
        return len(self.values) if self.up_to is None or not len(self.values) else int(self.up_to[-1])

    def quantile(self, q: float) -> float:
        """Linear between the two nearest samples, as numpy has it. Needs a sample."""
        place = (self.n - 1) * q
        low = math.floor(place)
        below, above = (float(value) for value in self.ranked(np.array([low, min(low + 1, self.n - 1)])))
        share = place - low
        step = above - below
        return above - step * (1 - share) if share >= 0.5 else below + step * share

    def ranked(self, ranks: npt.NDArray[np.int64]) -> FloatArray:
        """The samples of these ranks, 0 for the smallest."""
        return self.values[ranks if self.up_to is None else np.searchsorted(self.up_to, ranks, side="right")]

    def distinct(self) -> FloatArray:
        return self.values[np.diff(self.values, prepend=-np.inf) > 0]


def ordered(values: Sequence[FloatArray], weights: Sequence[FloatArray | None]) -> Ordered:
    """These samples together; a weight of None: one for each value."""
    joined = np.concatenate(values) if values else np.zeros(0)
    if all(weight is None for weight in weights):
        return Ordered(values=np.sort(joined), up_to=None)
    counts = [np.ones(len(own)) if weight is None else weight for own, weight in zip(values, weights, strict=True)]
    order = np.argsort(joined, kind="stable")
    return Ordered(values=joined[order], up_to=np.cumsum(np.concatenate(counts)[order]))
