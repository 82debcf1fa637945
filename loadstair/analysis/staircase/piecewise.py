"""A line with one bend through log(throughput) against log(load): where a plateau begins abruptly.

The Universal Scalability Law bends slowly. A server that scales until its batch is full, and not at all from there on,
is off it; two straight pieces that meet at the knee follow it. Which of the two a staircase follows better is told by
their BIC (Schwarz 1978); both are reported.
"""

import math
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve, estimate_of, knee_inside, residuals
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray

LOADS_MIN = 5
"""Four parameters, and one load to see whether they fit."""
PARAMETERS = 4
BENDS = 200
"""Places tried for the bend, equally far from each other in log(load)."""
FEW_LOADS = Finding.info("piecewise.few_loads", f"a bend needs {LOADS_MIN} valid loads: add steps to load.steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseFit:
    slope_below: Estimate
    """Of log(throughput) over log(load) before the bend: 1 is linear scaling, 0 a plateau."""
    slope_above: Estimate
    knee_load: Estimate
    """The bend. Nothing unless its whole interval lies inside the measured range, and it is one from worth-it to not:
    the gain per doubling is KNEE_GAIN_MIN or more before it and less behind it."""
    bic: float
    misfit: bool
    """The curve is off the two pieces by more than its noise explains."""


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
        knee_load=knee_inside(curve, float(point.log_knee()[0]), draws.log_knee(), "piecewise"),
        bic=float(squares[0]) + PARAMETERS * math.log(count),
        misfit=off.misfit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bent:
    """Each of shape [draws]."""

    bend: FloatArray
    """Its log(load)."""
    below: FloatArray
    above: FloatArray

    def at(self, log_loads: FloatArray) -> FloatArray:
        """Shape [draws, loads]: log(throughput), but for a constant."""
        beyond = log_loads - self.bend[:, None]
        return np.asarray(
            self.below[:, None] * np.minimum(0.0, beyond) + self.above[:, None] * np.maximum(0.0, beyond),
            dtype=np.float64,
        )

    def log_knee(self) -> FloatArray:
        """Infinite where throughput is still worth more load behind the bend, minus infinite where it never was."""
        knee = np.where(self.above >= LOG2_KNEE_GAIN, np.inf, self.bend)
        return np.asarray(np.where(self.below < LOG2_KNEE_GAIN, -np.inf, knee), dtype=np.float64)


def _fit(curve: Curve, log_tokens: FloatArray) -> tuple[_Bent, FloatArray]:
    """Of each draw the bend with the smallest weighted sum of squares, and that sum; `log_tokens` [draws, loads].

    All bends are tried at once, by the orthonormal bases of their terms. A bend has two loads on either side. One
    upwards is noise: then the line is straight.
    """
    log_loads, weight = np.log(curve.loads), 1 / curve.spread
    bends = np.linspace(log_loads[1], log_loads[-2], BENDS)
    target = (log_tokens - log_tokens.mean(axis=1, keepdims=True)) * weight
    beyond = log_loads - bends[:, None]
    terms = np.stack([np.ones_like(beyond), beyond, np.maximum(0.0, beyond)], axis=2) * weight[:, None]
    basis, triangle = np.linalg.qr(terms)
    along = np.einsum("dl,blk->dbk", target, basis, optimize=True)
    total = (target**2).sum(axis=1)
    squares = total[:, None] - (along**2).sum(axis=2)
    upwards = along[:, :, 2] / triangle[:, 2, 2] > 0
    chosen = np.where(upwards, np.inf, squares).argmin(axis=1)
    rows = np.arange(len(target))
    found = np.linalg.solve(triangle[chosen], along[rows, chosen][:, :, None])[:, :, 0]
    straight, slope, straight_squares = upwards.all(axis=1), *_line(log_loads, target, weight)
    return (
        _Bent(
            bend=np.where(straight, log_loads[-1], bends[chosen]),
            below=np.where(straight, slope, found[:, 1]),
            above=np.where(straight, slope, found[:, 1] + found[:, 2]),
        ),
        np.where(straight, straight_squares, squares[rows, chosen]),
    )


def _line(log_loads: FloatArray, target: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and weighted sum of squares of a line without a bend, each of shape [draws]."""
    design = np.stack([np.ones_like(log_loads), log_loads], axis=1) * weight[:, None]
    found = target @ np.linalg.pinv(design).T
    return found[:, 1], ((target - found @ design.T) ** 2).sum(axis=1)
