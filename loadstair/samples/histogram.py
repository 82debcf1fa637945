"""A mergeable histogram of durations with a bounded relative error.

Bins are equally wide on a logarithmic scale, so a percentile is known within 1 % whatever its size, and merging two
histograms is adding their bins: the same result as recording everything in one place.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Final

import boost_histogram as bh
import numpy as np
import numpy.typing as npt

LOWEST_NS: Final = 10_000
HIGHEST_NS: Final = 3_600_000_000_000
RELATIVE_ERROR: Final = 0.01
BINS: Final = math.ceil(math.log(HIGHEST_NS / LOWEST_NS) / (2 * math.log1p(RELATIVE_ERROR)))
"""A value stands for its bin by the geometric middle: the bin's edges are a factor (1 + error)² apart."""

Counts = npt.NDArray[np.int64]


class LogHistogram:
    """Of durations in ns, from 10 µs to 1 h. What is shorter or longer is kept in a bin of its own at either end."""

    __slots__ = ("_bins", "_max_ns", "_sum_ns")

    def __init__(self) -> None:
        axis = bh.axis.Regular(BINS, LOWEST_NS, HIGHEST_NS, transform=bh.axis.transform.log)
        self._bins = bh.Histogram(axis, storage=bh.storage.Int64())
        self._sum_ns = 0
        self._max_ns: int | None = None

    def record(self, values_ns: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Negative values count as shorter than 10 µs."""
        values = np.asarray(values_ns, dtype=np.int64)
        if not values.size:
            return
        # 0 and below have no logarithm; half the lowest edge lies in the same bin as they should.
        self._bins.fill(np.maximum(values, LOWEST_NS // 2).astype(np.float64))
        self._sum_ns += int(values.sum())
        largest = int(values.max())
        self._max_ns = largest if self._max_ns is None else max(self._max_ns, largest)

    @property
    def n(self) -> int:
        return int(self._counts().sum())

    @property
    def mean_ns(self) -> float | None:
        """Exact."""
        n = self.n
        return self._sum_ns / n if n else None

    @property
    def max_ns(self) -> float | None:
        """Exact, but for a difference (`since`): there within the histogram's error."""
        return self._max_ns

    def percentiles_ns(self, quantiles: Sequence[float]) -> list[float | None]:
        """Nearest rank: the smallest value that so large a share of all does not exceed, within 1 %.

        Below 10 µs: 0. Above 1 h: the largest value. None without values.
        """
        cumulative = np.cumsum(self._counts())
        n = int(cumulative[-1])
        if not n:
            return [None for _ in quantiles]
        ranks = [max(1, math.ceil(quantile * n - 1e-9)) for quantile in quantiles]
        return [self._value_ns(int(place)) for place in np.searchsorted(cumulative, ranks)]

    def _value_ns(self, place: int) -> float:
        """What the bin at `place` (0 is that of the too short ones) stands for: never more than the largest value."""
        assert self._max_ns is not None
        if place == 0:
            return 0.0
        if place > BINS:
            return float(self._max_ns)
        edges: npt.NDArray[np.float64] = self._bins.axes[0].edges
        return min(math.sqrt(edges[place - 1] * edges[place]), float(self._max_ns))

    def merge(self, other: "LogHistogram") -> None:
        """Adds what `other` recorded."""
        self._counts()[...] += other._counts()
        self._sum_ns += other._sum_ns
        if other._max_ns is not None:
            self._max_ns = other._max_ns if self._max_ns is None else max(self._max_ns, other._max_ns)

    def since(self, earlier: "LogHistogram") -> "LogHistogram":
        """What was recorded after `earlier`, which is an older state of this same histogram."""
        later = LogHistogram()
        counts = later._counts()
        counts[...] = self._counts() - earlier._counts()
        later._sum_ns = self._sum_ns - earlier._sum_ns
        filled = np.flatnonzero(counts)
        if filled.size:
            later._max_ns = self._max_ns
            later._max_ns = round(later._value_ns(int(filled[-1])))
        return later

    def to_bytes(self) -> bytes:
        """Some hundred bytes."""
        head = np.array([self._sum_ns, -1 if self._max_ns is None else self._max_ns], dtype="<i8")
        return zlib.compress(head.tobytes() + self._counts().astype("<i8").tobytes(), 1)

    @classmethod
    def from_bytes(cls, packed: bytes) -> "LogHistogram":
        """Raises ValueError if these are not a histogram's bytes."""
        size = 8 * (2 + BINS + 2)
        try:
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(packed, size + 1)
        except zlib.error as error:
            raise ValueError("not a histogram") from error
        if len(raw) != size:
            raise ValueError(f"a histogram of {len(raw)} bytes where {size} were expected")
        values = np.frombuffer(raw, dtype="<i8")
        histogram = cls()
        histogram._sum_ns = int(values[0])
        histogram._max_ns = None if values[1] < 0 else int(values[1])
        histogram._counts()[...] = values[2:]
        return histogram

    def _counts(self) -> Counts:
        """Shape [BINS + 2]: too short, the bins, too long. A view."""
        counts: Counts = self._bins.view(flow=True)
        return counts
