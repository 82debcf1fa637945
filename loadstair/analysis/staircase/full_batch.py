"""Contention up to a full batch, and a plateau behind it: X(N) = γM / (1 + σ(M - 1)) with M = min(N, B).

What an engine does that takes so many requests at once (vLLM's `max_num_seqs`, or what fits its KV cache): its step
grows with the batch, as the Universal Scalability Law without coherency has it, until the batch is full; more users
only wait. Throughput then bends slowly *and* abruptly, which neither that law nor a line with a bend follows.

log X = γ' - log(1/M + r), with r = σ/(1 - σ) and any γ'. Least squares in logarithms: the best place of a grid over B
and r, then Gauss and Newton's steps on all three.
"""

import math
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve, estimate_of, load_inside, residuals
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray

LOADS_MIN = 5
"""Three parameters, a load on either side of the full batch, and one to see whether they fit."""
PARAMETERS = 3
BATCHES, RATIOS = 50, 20
"""How many of each are tried first, equally far from each other in their logarithms."""
RATIO_MIN, RATIO_MAX = 1e-3, 1e3
"""Least r tried, times the highest load, and most, times the lowest: less or more than that is not seen."""
ITERATIONS = 6
FEW_LOADS = Finding.info("full_batch.few_loads", f"a full batch needs {LOADS_MIN} valid loads: add steps to load.steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class FullBatchFit:
    contention: Estimate
    """σ below the full batch: 0 scales linearly, 1 not at all."""
    full_load: Estimate
    """B, from which on throughput is the same. Nothing unless its whole interval lies inside the measured range."""
    knee_load: Estimate
    """The full batch, or the load below it from which on contention lets throughput gain less than KNEE_GAIN_MIN per
    doubling. Nothing unless its whole interval lies inside the measured range."""
    log_knee_draws: FloatArray
    """Shape [DRAWS]; infinite where a draw has none."""
    laws: FloatArray
    """Shape [DRAWS, 3]: log B, log r and γ'."""
    bic: float
    misfit: bool
    """The curve is off this law by more than its noise explains."""

    def log_tokens_at(self, loads: FloatArray) -> FloatArray:
        """Shape [DRAWS, loads]: what each draw expects there."""
        return _shape(np.log(loads), self.laws) + self.laws[:, 2:]


def fit_full_batch(curve: Curve) -> FullBatchFit | None:
    """None with fewer than LOADS_MIN loads."""
    count = len(curve.loads)
    if count < LOADS_MIN:
        return None
    point, squares = _fit(curve, curve.log_tokens[None, :])
    by_noise = _fit(curve, _shape(np.log(curve.loads), point) + curve.deviations)[1]
    off = residuals(float(squares[0]), count - PARAMETERS, by_noise)
    measured = curve.draws(off.scale)
    draws, _ = _fit(curve, measured)
    level = _level(measured - _shape(np.log(curve.loads), draws), 1 / curve.spread)
    return FullBatchFit(
        contention=estimate_of(float(_contention(point)[0]), _contention(draws), count),
        full_load=load_inside(
            curve, float(_log_full(curve, point)[0]), _log_full(curve, draws), "full_batch", "full batch"
        ),
        knee_load=load_inside(curve, float(_log_knee(curve, point)[0]), _log_knee(curve, draws), "full_batch"),
        log_knee_draws=_log_knee(curve, draws),
        laws=np.hstack([draws, level]),
        bic=float(squares[0]) + PARAMETERS * math.log(count),
        misfit=off.misfit,
    )


def _contention(found: FloatArray) -> FloatArray:
    ratio = np.exp(found[:, 1])
    return np.asarray(ratio / (1 + ratio), dtype=np.float64)


def _log_full(curve: Curve, found: FloatArray) -> FloatArray:
    """Infinite, or minus infinite, at the end of what was tried: there it is not seen."""
    lowest, highest = _bounds(curve)
    full = np.where(found[:, 0] >= highest[0], np.inf, found[:, 0])
    return np.asarray(np.where(full <= lowest[0], -np.inf, full), dtype=np.float64)


def _log_knee(curve: Curve, found: FloatArray) -> FloatArray:
    """Below the full batch the slope of log(throughput) is 1 / (1 + rN)."""
    by_contention = math.log(1 / LOG2_KNEE_GAIN - 1) - found[:, 1]
    return np.asarray(np.minimum(_log_full(curve, found), by_contention), dtype=np.float64)


def _shape(log_loads: FloatArray, found: FloatArray) -> FloatArray:
    """Shape [draws, loads]: log(throughput), but for a constant; `found` has log B and log r first."""
    inside = np.minimum(log_loads, found[:, :1])
    return np.asarray(-np.log(np.exp(-inside) + np.exp(found[:, 1:2])), dtype=np.float64)


def _fit(curve: Curve, log_tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each draw log B and log r, shape [draws, 2], and the weighted sum of squares; `log_tokens` [draws, loads]."""
    log_loads, weight = np.log(curve.loads), 1 / curve.spread
    lowest, highest = _bounds(curve)
    full, ratio = (
        np.linspace(low, high, places) for low, high, places in zip(lowest, highest, (BATCHES, RATIOS), strict=True)
    )
    tried = np.stack(np.meshgrid(full, ratio), axis=-1).reshape(-1, 2)
    target = _centred(log_tokens, weight)
    shapes = _centred(_shape(log_loads, tried), weight)
    best = found = tried[((shapes**2).sum(axis=1) - 2 * target @ shapes.T).argmin(axis=1)]
    off = target - _centred(_shape(log_loads, found), weight)
    squares = (off**2).sum(axis=1)
    for _ in range(ITERATIONS):
        found = np.clip(found + _step(log_loads, found, weight, off), lowest, highest)
        off = target - _centred(_shape(log_loads, found), weight)
        now = (off**2).sum(axis=1)
        better = now < squares
        best, squares = np.where(better[:, None], found, best), np.where(better, now, squares)
    return best, squares


def _bounds(curve: Curve) -> tuple[FloatArray, FloatArray]:
    """The least and the most of log B and log r that are tried."""
    log_loads = np.log(curve.loads)
    lowest = np.array([log_loads[1], math.log(RATIO_MIN) - log_loads[-1]])
    return lowest, np.array([log_loads[-1], math.log(RATIO_MAX) - log_loads[0]])


def _step(log_loads: FloatArray, found: FloatArray, weight: FloatArray, off: FloatArray) -> FloatArray:
    """What least squares would add to log B and log r if the law were linear around `found`."""
    full, ratio = found[:, :1], np.exp(found[:, 1:])
    inverse = np.exp(-np.minimum(log_loads, full))
    by_full = np.where(log_loads > full, inverse / (inverse + ratio), 0.0)
    by_ratio = -ratio / (inverse + ratio)
    terms = np.stack([_centred(by_full, weight), _centred(by_ratio, weight)], axis=2)
    gram = np.einsum("dli,dlj->dij", terms, terms)
    gram = gram + 1e-9 * (1 + np.trace(gram, axis1=1, axis2=2))[:, None, None] * np.eye(2)
    step = np.linalg.solve(gram, np.einsum("dli,dl->di", terms, off)[:, :, None])[:, :, 0]
    return np.asarray(np.clip(step, -0.5, 0.5), dtype=np.float64)


def _centred(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted, and less what a constant explains: throughput's level is free."""
    return np.asarray((values - _level(values, weight)) * weight, dtype=np.float64)


def _level(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Shape [draws, 1]: the constant nearest to the values."""
    return np.asarray((values @ weight**2 / (weight**2).sum())[:, None], dtype=np.float64)
