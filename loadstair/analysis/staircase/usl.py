"""The Universal Scalability Law, X(N) = γN / (1 + σ(N - 1) + κN(N - 1)), fitted to throughput against load.

σ is contention (what must wait for its turn), κ coherency (what each must settle with every other). N/X is linear in
N and N(N - 1): N/X = p + bN + cN(N - 1) with p = (1 - σ)/γ, b = σ/γ, c = κ/γ. All three are at least 0 exactly where
0 ≤ σ ≤ 1 and κ ≥ 0, so the bounded fit is a least squares with non-negative coefficients, small enough to look at all
seven sets of positive ones, for every draw at once.

Throughput errors are relative, so the squares are those of logarithms, over the spread of each load.
Source: Gunther, Guerrilla Capacity Planning (2007), ch. 4–6.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve, estimate_of, load_inside, residuals
from loadstair.analysis.statistics.bootstrap import interval
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray

LOADS_MIN = 4
"""Three parameters, and one load to see whether they fit."""
PARAMETERS = 3
ITERATIONS = 8
LOG_LOAD_MAX = 50.0
FEW_LOADS = Finding.info(
    "usl.few_loads", f"the Universal Scalability Law needs {LOADS_MIN} valid loads: add steps to load.steps"
)
_SUPPORTS = [list(chosen) for size in (1, 2, 3) for chosen in combinations(range(PARAMETERS), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class UslFit:
    contention: Estimate
    """σ: 0 scales linearly, 1 not at all."""
    coherency: Estimate
    """κ: above 0, throughput has a peak and falls beyond it."""
    peak_load: Estimate
    """√((1 - σ)/κ). Nothing unless it lies inside the measured range and κ is above 0 with confidence."""
    peak_tokens_per_s: Estimate
    knee_load: Estimate
    """Where the slope of log(throughput) over log(load) falls to log2(KNEE_GAIN_MIN): from there on, throughput gains
    less than KNEE_GAIN_MIN per doubling. Nothing unless the whole interval lies inside the measured range."""
    log_knee_draws: FloatArray
    """Shape [DRAWS]; infinite where the law never gets there."""
    coefficients: FloatArray
    """Shape [DRAWS, 3]: p, b and c."""
    bic: float
    misfit: bool
    """The curve is off the law by more than its noise explains."""
    findings: tuple[Finding, ...]

    def log_tokens_at(self, loads: FloatArray) -> FloatArray:
        """Shape [DRAWS, loads]: what each draw expects there."""
        return np.asarray(np.log(loads) - np.log(self.coefficients @ _terms(loads).T), dtype=np.float64)


def fit_usl(curve: Curve) -> UslFit | None:
    """None with fewer than LOADS_MIN loads."""
    count = len(curve.loads)
    if count < LOADS_MIN:
        return None
    point, squares = _fit(curve.loads, curve.log_tokens[None, :], curve.spread)
    fitted = np.log(curve.loads) - np.log(point[0] @ _terms(curve.loads).T)
    # As bad as this by noise alone? Refits of the fitted curve with the measurement's own noise tell.
    by_noise = _fit(curve.loads, fitted + curve.deviations, curve.spread)[1]
    off = residuals(float(squares[0]), count - PARAMETERS, by_noise)
    draws, _ = _fit(curve.loads, curve.draws(off.scale), curve.spread)
    log_knee_draws = _log_knee(draws)
    contention, coherency = _laws(point), _laws(draws)
    peak_load, peak_tokens = _peak(curve, point, draws)
    return UslFit(
        contention=estimate_of(float(contention[0][0]), coherency[0], count),
        coherency=estimate_of(float(contention[1][0]), coherency[1], count),
        peak_load=peak_load,
        peak_tokens_per_s=peak_tokens,
        knee_load=load_inside(curve, float(_log_knee(point)[0]), log_knee_draws, "usl"),
        log_knee_draws=log_knee_draws,
        coefficients=draws,
        bic=float(squares[0]) + PARAMETERS * math.log(count),
        misfit=off.misfit,
        findings=(_misfit(off.ratio),) if off.misfit else (),
    )


def _laws(coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
    """σ and κ from p, b and c, each of shape [draws]."""
    p, b, c = coefficients.T
    scale = np.maximum(p + b, np.finfo(np.float64).tiny)
    return b / scale, c / scale


def _log_knee(coefficients: FloatArray) -> FloatArray:
    """Shape [draws]. The slope is (p - cN²) / (p + bN + cN(N - 1)); with g its wanted value, the knee solves
    c(1 + g)N² + g(b - c)N - (1 - g)p = 0. Infinite for b = c = 0, minus infinite for p = 0."""
    p, b, c = coefficients.T
    g = LOG2_KNEE_GAIN
    half = g * (b - c) / 2
    root = half + np.sqrt(half**2 + c * (1 + g) * (1 - g) * p)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The quadratic's usual form loses all digits for small c.
        return np.asarray(np.where(p > 0, np.log((1 - g) * p / np.maximum(root, 0)), -np.inf), dtype=np.float64)


def _peak(curve: Curve, point: FloatArray, draws: FloatArray) -> tuple[Estimate, Estimate]:
    def log_peaks(coefficients: FloatArray) -> FloatArray:
        p, _, c = coefficients.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(c > 0, 0.5 * (np.log(p) - np.log(c)), np.inf), dtype=np.float64)

    count = len(curve.loads)
    log_peak, log_draws = float(log_peaks(point)[0]), log_peaks(draws)
    low, high = interval(np.clip(log_draws, -700, 700))
    low, high = min(low, log_peak), max(high, log_peak)
    coherency_low = interval(_laws(draws)[1])[0]
    if coherency_low <= 0 or log_peak > math.log(curve.highest) or log_peak < math.log(curve.lowest):
        message = f"no peak inside the range, up to load {curve.highest:g}"
        nothing = Estimate.nothing(count, (Finding.info("usl.no_peak", message),))
        return nothing, nothing
    at_peak = np.exp(np.minimum(log_draws, LOG_LOAD_MAX))  # single draws without coherency never peak
    tokens = at_peak / (draws * _terms(at_peak)).sum(axis=1) * np.exp(curve.shared)
    value = math.exp(log_peak)
    value_tokens = value / float((point[0] * _terms(np.array([value]))[0]).sum())
    return (
        Estimate(value=value, low=math.exp(low), high=math.exp(high), n=count),
        estimate_of(value_tokens, tokens, count),
    )


def _misfit(ratio: float) -> Finding:
    message = (
        "throughput does not follow the Universal Scalability Law: its residuals are "
        f"{math.sqrt(ratio):.2g} times what the noise explains, and the intervals are widened by as much"
    )
    return Finding.info("usl.misfit", message)


def _terms(loads: FloatArray) -> FloatArray:
    """Shape [loads, 3]."""
    return np.stack([np.ones_like(loads), loads, loads * (loads - 1)], axis=1)


def _fit(loads: FloatArray, log_tokens: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients, shape [draws, 3], and the weighted sum of squares, shape [draws]; `log_tokens` [draws, loads].

    Gauss and Newton's steps on the logarithms, each a linear least squares with non-negative coefficients; the best
    step seen counts, so a wild draw cannot make it worse than the first.
    """
    terms = _terms(loads)
    scale = terms.max(axis=0)
    log_costs = np.log(loads) - log_tokens
    level = log_costs.mean(axis=1, keepdims=True)
    log_costs = log_costs - level
    best, best_squares = np.zeros((len(log_costs), PARAMETERS)), np.full(len(log_costs), np.inf)
    expected = log_costs
    for _ in range(ITERATIONS):
        design = (terms / scale) * np.exp(-expected)[:, :, None] / spread[:, None]
        found = _non_negative(design, (1 + log_costs - expected) / spread)
        expected = np.log(found @ (terms / scale).T)
        squares = (((log_costs - expected) / spread) ** 2).sum(axis=1)
        better = squares < best_squares
        best[better], best_squares[better] = found[better], squares[better]
    return best / scale * np.exp(level), best_squares


def _non_negative(design: FloatArray, target: FloatArray) -> FloatArray:
    """Least squares of design @ x = target with x ≥ 0: [draws, rows, 3] and [draws, rows] give [draws, 3].

    The best of the seven sets of positive coefficients whose own solution is positive; a single one always is, as all
    terms and costs are positive.
    """
    gram = np.einsum("dri,drj->dij", design, design)
    moment = np.einsum("dri,dr->di", design, target)
    best = np.zeros_like(moment)
    gained = np.full(len(moment), -np.inf)
    for support in _SUPPORTS:
        part = gram[:, support][:, :, support]
        # So small a ridge moves nothing but a singular matrix.
        part = part + 1e-13 * np.trace(part, axis1=1, axis2=2)[:, None, None] * np.eye(len(support))
        found = np.linalg.solve(part, moment[:, support][:, :, None])[:, :, 0]
        gain = (found * moment[:, support]).sum(axis=1)
        better = (found > 0).all(axis=1) & (gain > gained)
        gained[better] = gain[better]
        best[better] = 0.0
        rows = np.flatnonzero(better)
        best[rows[:, None], np.array(support)] = found[rows]
    return np.asarray(best, dtype=np.float64)
