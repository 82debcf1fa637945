"""A line with one bend through log(throughput) against log(load): where a plateau begins abruptly.

Where a bend lies between two given loads, the best one is where the lines through the loads below and above meet, if
they meet there; otherwise it is at one of the loads. So a few bends are tried, and the best of them is exact.
"""

import math
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve, estimate_of, load_inside, residuals
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray

LOADS_MIN = 5
"""Four parameters, and one load to see whether they fit."""
PARAMETERS = 4
FEW_LOADS = Finding.info("piecewise.few_loads", f"a bend needs {LOADS_MIN} valid loads: add steps to load.steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseFit:
    slope_below: Estimate
    """Of log(throughput) over log(load) before the bend: 1 is linear scaling, 0 a plateau."""
    slope_above: Estimate
    knee_load: Estimate
    """The bend. Nothing unless its whole interval lies inside the measured range, and it is one from worth-it to not:
    the gain per doubling is KNEE_GAIN_MIN or more before it and less behind it."""
    log_knee_draws: FloatArray
    """Shape [DRAWS]; infinite where a draw has none."""
    bent: "Bent"
    """Of all draws."""
    bic: float
    misfit: bool
    """The curve is off the two pieces by more than its noise explains."""

    def log_tokens_at(self, loads: FloatArray) -> FloatArray:
        """Shape [DRAWS, loads]: what each draw expects there."""
        return self.bent.at(np.log(loads))


def fit_piecewise(curve: Curve) -> PiecewiseFit | None:
    """None with fewer than LOADS_MIN loads."""
    count = len(curve.loads)
    if count < LOADS_MIN:
        return None
    point, squares = _fit(curve, curve.log_tokens[None, :])
    by_noise = _fit(curve, point.at(np.log(curve.loads)) + curve.deviations)[1]
    off = residuals(float(squares[0]), count - PARAMETERS, by_noise)
    draws, _ = _fit(curve, curve.draws(off.scale))
    return PiecewiseFit(
        slope_below=estimate_of(float(point.below[0]), draws.below, count),
        slope_above=estimate_of(float(point.above[0]), draws.above, count),
        knee_load=load_inside(curve, float(point.log_knee()[0]), draws.log_knee(), "piecewise"),
        log_knee_draws=draws.log_knee(),
        bent=draws,
        bic=float(squares[0]) + PARAMETERS * math.log(count),
        misfit=off.misfit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bent:
    """Each of shape [draws]."""

    bend: FloatArray
    """Its log(load)."""
    level: FloatArray
    """log(throughput) at the bend."""
    below: FloatArray
    """Slopes."""
    above: FloatArray

    def at(self, log_loads: FloatArray) -> FloatArray:
        """Shape [draws, loads]: log(throughput)."""
        beyond = log_loads - self.bend[:, None]
        below = self.below[:, None] * np.minimum(0.0, beyond)
        return np.asarray(self.level[:, None] + below + self.above[:, None] * np.maximum(0.0, beyond), dtype=np.float64)

    def log_knee(self) -> FloatArray:
        """Infinite where throughput is still worth more load behind the bend, minus infinite where it never was."""
        knee = np.where(self.above >= LOG2_KNEE_GAIN, np.inf, self.bend)
        return np.asarray(np.where(self.below < LOG2_KNEE_GAIN, -np.inf, knee), dtype=np.float64)

    def where(self, taken: np.ndarray, other: "Bent") -> "Bent":
        """`other` where it is taken, else this."""
        return Bent(
            bend=np.where(taken, other.bend, self.bend),
            level=np.where(taken, other.level, self.level),
            below=np.where(taken, other.below, self.below),
            above=np.where(taken, other.above, self.above),
        )


def _fit(curve: Curve, log_tokens: FloatArray) -> tuple[Bent, FloatArray]:
    """Of each draw the bend with the smallest weighted sum of squares, and that sum; `log_tokens` [draws, loads].

    A bend has two loads on either side. One upwards is noise: then the line is straight.
    """
    log_loads, weight = np.log(curve.loads), 1 / curve.spread
    best = _straight(log_loads, log_tokens, weight)
    squares = _squares(best, log_loads, log_tokens, weight)
    bends = [np.full(len(log_tokens), one) for one in log_loads[1:-1]]
    bends += [_meeting(log_loads, log_tokens, weight, after) for after in range(2, len(log_loads) - 1)]
    for bend in bends:
        bent = _bent(log_loads, log_tokens, weight, bend)
        now = _squares(bent, log_loads, log_tokens, weight)
        taken = (bent.above <= bent.below) & (now < squares)
        best, squares = best.where(taken, bent), np.where(taken, now, squares)
    return best, squares


def _squares(bent: Bent, log_loads: FloatArray, log_tokens: FloatArray, weight: FloatArray) -> FloatArray:
    return np.asarray((((log_tokens - bent.at(log_loads)) * weight) ** 2).sum(axis=1), dtype=np.float64)


def _straight(log_loads: FloatArray, log_tokens: FloatArray, weight: FloatArray) -> Bent:
    level, slope = _line(log_loads, log_tokens, weight)
    bend = np.full(len(log_tokens), log_loads[-1])
    return Bent(bend=bend, level=level + slope * log_loads[-1], below=slope, above=slope)


def _bent(log_loads: FloatArray, log_tokens: FloatArray, weight: FloatArray, bend: FloatArray) -> Bent:
    """The best two slopes for a bend there."""
    beyond = log_loads - bend[:, None]
    terms = np.stack([np.ones_like(beyond), np.minimum(0.0, beyond), np.maximum(0.0, beyond)], axis=2)
    terms = terms * weight[:, None]
    gram = np.einsum("dli,dlj->dij", terms, terms)
    moment = np.einsum("dli,dl->di", terms, log_tokens * weight)
    level, below, above = np.linalg.solve(gram, moment[:, :, None])[:, :, 0].T
    return Bent(bend=bend, level=level, below=below, above=above)


def _meeting(log_loads: FloatArray, log_tokens: FloatArray, weight: FloatArray, after: int) -> FloatArray:
    """Where the lines through the loads before and from `after` on meet, but between the two loads around it."""
    level, slope = _line(log_loads[:after], log_tokens[:, :after], weight[:after])
    level_above, slope_above = _line(log_loads[after:], log_tokens[:, after:], weight[after:])
    with np.errstate(divide="ignore", invalid="ignore"):
        meeting = np.nan_to_num((level_above - level) / (slope - slope_above), nan=np.inf)
    return np.asarray(np.clip(meeting, log_loads[after - 1], log_loads[after]), dtype=np.float64)


def _line(log_loads: FloatArray, log_tokens: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Level at load 1 and slope of a line without a bend, each of shape [draws]."""
    design = np.stack([np.ones_like(log_loads), log_loads], axis=1) * weight[:, None]
    level, slope = ((log_tokens * weight) @ np.linalg.pinv(design).T).T
    return level, slope
