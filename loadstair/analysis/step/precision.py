"""Whether a hold has shown enough to know its throughput as well as the plan wants. Pure; asked while it goes on.

Whoever stops as soon as an interval happens to be narrow stops too early too often: looking at every slice, an interval
that should hold the truth 95 times in 100 held it 68 to 93 times. So it is looked at only whenever the hold has grown
by a quarter, and must have been narrow enough twice in a row.
"""

from collections.abc import Sequence

import numpy as np

from loadstair.analysis.statistics.bootstrap import BATCHES, batch_means
from loadstair.analysis.step.latency import FloatArray
from loadstair.samples.look import Look

GROWTH = 1.25
LENGTHS = 2


def precise_enough(tokens_per_s: FloatArray, precision: float) -> bool:
    """Whether the mean is known to within ± `precision` of itself, at 95 %.

    `tokens_per_s`: over equally long slices, from the start of the hold; with fewer than 20 nothing is precise.
    """
    lengths = _lengths(len(tokens_per_s))
    return len(lengths) == LENGTHS and all(_is_within(tokens_per_s[:length], precision) for length in lengths)


def _lengths(slices: int) -> list[int]:
    """The last LENGTHS of those at which it is looked: a slice for each batch, then a quarter more each time."""
    lengths = []
    length = float(BATCHES)
    while length <= slices:
        lengths.append(int(length))
        length *= GROWTH
    return lengths[-LENGTHS:]


def _is_within(tokens_per_s: FloatArray, precision: float) -> bool:
    found = batch_means(tokens_per_s)
    return found.mean > 0 and found.half_width <= precision * found.mean


def rates(looks: Sequence[Look]) -> FloatArray:
    """Tokens per second over equally long slices from the first look to the last, one less than there are looks.

    Between two looks, which come as they come, the tokens are taken to have come evenly.
    """
    if len(looks) < 2:
        return np.zeros(0)
    time_s = np.array([look.time_s for look in looks])
    at_s = np.linspace(time_s[0], time_s[-1], len(looks))
    return np.diff(np.interp(at_s, time_s, [look.tokens for look in looks])) / np.diff(at_s)
