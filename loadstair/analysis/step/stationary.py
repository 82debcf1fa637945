"""Whether a load is stationary: before the hold, from looks at it (may the hold begin?); afterwards, from the records
of the hold (may the step be used?).

A queue that still builds up shows in TTFT, one that a step's growth left behind in the requests in flight, an engine
that still warms up in the token rate. A drift is one that is both significant and material: noise is never a drift,
nor is what is measured so well that any small slope is significant.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from loadstair.analysis.statistics.distributions import t_two_sided
from loadstair.analysis.statistics.trend import line, slope
from loadstair.analysis.step.latency import FloatArray
from loadstair.samples.look import Look

LOOKS_MIN = 12
"""Fewer tell nothing of a drift."""
LOOKED_AT = 2 / 3
"""Share of the looks that tells, the newest. A queue that has grown evenly from nothing has trebled in it; what the
start itself did has left it once that is a third of the whole."""
TURNOVERS_MIN = 1.0
"""First tokens that must have come since the load stopped growing, for each request under way. Before, most of what is
under way was sent under another load, and whoever had to queue first may not have been answered: a queue of any length
then shows in nothing."""
MATERIAL_WHILE_WARMING = 0.2
"""Change over the looks, as a share of their mean, that the hold must not begin in."""
SIGNIFICANCE_WHILE_WARMING = 0.3
"""A wrong "not yet" costs a look, 0.25 s; a wrong "yes" a step, and one of many looks is enough for it: at 0.05 a queue
that builds up nearly always passed once in 20 s."""
MATERIAL_IN_HOLD = 0.25
"""Change over the hold, as a share of its level, that makes a step's numbers those of no load in particular."""
SIGNIFICANCE_IN_HOLD = 0.001
"""Of sound holds, one in a thousand is then called drifting, and one in a hundred where neighbouring windows correlate
by 0.9; a TTFT that doubles is found where a window's noise is a tenth of it (tests/analysis/test_stationary.py)."""


def warmed_up(looks: Sequence[Look]) -> bool:
    """Whether the newer part of the looks since the load stopped growing shows no drift; False with too few of them.

    What came before is left out: it may hold what warm-up is for. What drifts longer pushes its own beginning out.
    """
    if len(looks) < LOOKS_MIN:
        return False
    recent = looks[-(round(len(looks) * LOOKED_AT) + 1) :]
    in_flight = float(np.mean([look.in_flight for look in recent]))
    if looks[-1].first_tokens - looks[0].first_tokens < TURNOVERS_MIN * in_flight:
        return False
    return not any(_still_drifts(series) for series in _series(recent))


def _series(looks: Sequence[Look]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Between each two looks: requests in flight, tokens per second, mean TTFT (NaN where no first token came)."""
    time_s = np.array([look.time_s for look in looks])
    tokens = np.array([look.tokens for look in looks], dtype=np.float64)
    first_tokens = np.diff(np.array([look.first_tokens for look in looks], dtype=np.float64))
    ttft_s_sum = np.diff(np.array([look.ttft_s_sum for look in looks]))
    in_flight = np.array([look.in_flight for look in looks[1:]], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ttft_s = np.where(first_tokens > 0, ttft_s_sum / first_tokens, np.nan)
    return in_flight, np.diff(tokens) / np.maximum(np.diff(time_s), 1e-9), ttft_s


def _still_drifts(values: FloatArray) -> bool:
    """Whether a line through the values rises or falls: materially, and by more than noise would have it. The looks are
    too few to tell their correlation, which is taken as none: that errs towards a longer warm-up."""
    told = ~np.isnan(values)
    if told.sum() < 4:
        return False
    found = line(np.flatnonzero(told).astype(np.float64), values[told])
    if abs(found.rise * (len(values) - 1)) <= MATERIAL_WHILE_WARMING * abs(found.level):
        return False
    error = found.error()
    return error == 0 or t_two_sided(found.rise / error, int(told.sum()) - 2) < SIGNIFICANCE_WHILE_WARMING


def drifts(series: Mapping[str, FloatArray]) -> dict[str, float]:
    """By name, the change over the hold as a share of the level, of each series that drifts.

    `series`: values over equally long windows of the hold, NaN where a window has none.
    """
    found = {}
    for name, values in series.items():
        trend = slope(np.arange(len(values), dtype=np.float64), values)
        if trend is None or trend.level <= 0:
            continue
        change = trend.value * (len(values) - 1) / trend.level
        if abs(change) > MATERIAL_IN_HOLD and trend.p_value < SIGNIFICANCE_IN_HOLD:
            found[name] = change
    return found
