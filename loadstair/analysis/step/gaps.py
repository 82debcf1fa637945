"""Inter-token gaps of many requests: exact where they are few, a fine histogram where they are millions. Pure.

A cell holds the gaps whose first 13 binary digits are the same, so it is at most 2⁻¹² of its values wide. It stands for
them by their mean: the mean of all is exact, a percentile is off by less than 0.025 %, and of a limit that falls into a
cell all of the cell lies on one side. (float32 has those digits in front, after sign and exponent: a shift finds the
cell where a logarithm would take ten times as long.)
"""

import numpy as np
import numpy.typing as npt

from loadstair.analysis.statistics.bootstrap import Blocked, blocks_of
from loadstair.analysis.statistics.weighted import Ordered, ordered
from loadstair.analysis.step.latency import FloatArray, itl_gaps
from loadstair.samples.arrivals import Arrivals, IntArray
from loadstair.samples.frame import Samples
from loadstair.units import NS_PER_MS

EXACT_MAX = 100_000
"""Gaps of one step of one visit up to which each is kept."""
RELATIVE_ERROR = 2.0**-12
DIGITS_DROPPED = 11
"""Of the 23 that a float32 keeps after the leading one."""


def itl_blocked(timed: Samples) -> Blocked:
    """Every gap of these requests in ms, all gaps of a request in one block. `timed` in the order of dispatch."""
    cut = blocks_of(_means_ms(timed.arrivals))
    weight: FloatArray | None = None
    if int(timed.arrivals.gap_counts().sum()) <= EXACT_MAX:
        gaps = itl_gaps(timed)
        values, block = gaps.gap_ns / NS_PER_MS, cut.block[gaps.request]
    else:
        cells = [histogram_ms(timed.arrivals.take(np.flatnonzero(cut.block == one))) for one in range(cut.blocks)]
        values, weight = (np.concatenate(part) for part in zip(*cells, strict=True))
        block = np.repeat(np.arange(cut.blocks, dtype=np.uint8), [len(own) for own, _ in cells])
    return cut.holding(values, block, weight)


def gaps_ms(arrivals: Arrivals) -> Ordered:
    """Every gap of these requests, exact or as cells."""
    if int(arrivals.gap_counts().sum()) <= EXACT_MAX:
        found = [piece.gaps()[0] for piece in arrivals.pieces()]
        return ordered([gap_ns / NS_PER_MS for gap_ns in found], [None])
    values_ms, weight = histogram_ms(arrivals)
    return ordered([values_ms], [weight])


def _means_ms(arrivals: Arrivals) -> FloatArray:
    """Mean gap of each request, 0 without one; shape [n]."""
    spans_ms = (arrivals.last_ns - arrivals.first_ns) / NS_PER_MS
    return np.asarray(spans_ms / np.maximum(1, arrivals.gap_counts()), dtype=np.float64)


def histogram_ms(arrivals: Arrivals) -> tuple[FloatArray, FloatArray]:
    """The cells that hold a gap: the mean of their gaps in ms, ascending, and how many these are.

    A negative gap, which a step of the wall clock makes, counts as 0: the step is invalid then.
    """
    parts = []
    for piece in arrivals.pieces():
        gap_ns, _ = piece.gaps()
        if len(gap_ns):
            parts.append(_counted(np.maximum(0, gap_ns).astype(np.float64)))
    if not parts:
        return np.zeros(0), np.zeros(0)
    lowest = min(low for low, _, _ in parts)
    size = max(low + len(counts) for low, counts, _ in parts) - lowest
    counts, sums = np.zeros(size, np.int64), np.zeros(size)
    for low, own_counts, own_sums in parts:
        place = slice(low - lowest, low - lowest + len(own_counts))
        counts[place] += own_counts
        sums[place] += own_sums
    filled = np.flatnonzero(counts)
    return sums[filled] / counts[filled] / NS_PER_MS, counts[filled].astype(np.float64)


def _counted(gap_ns: FloatArray) -> tuple[int, IntArray, FloatArray]:
    """The number of the lowest cell, and of it and the following ones: how many gaps, and their sum."""
    cell: npt.NDArray[np.int32] = gap_ns.astype(np.float32).view(np.int32) >> DIGITS_DROPPED
    # 0 lies half a million cells below 1 ns, with nothing between.
    cell = np.maximum(cell, _BELOW_ONE)
    low = int(cell.min())
    cell -= low
    return low, np.bincount(cell).astype(np.int64), np.bincount(cell, weights=gap_ns).astype(np.float64)


_BELOW_ONE = (int(np.float32(1).view(np.int32)) >> DIGITS_DROPPED) - 1
