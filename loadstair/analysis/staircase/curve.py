"""Throughput against load, in logarithms, with the doubt that its shape has.

Repeats differ in two ways: by a factor that all loads of a repeat share (a restart, a temperature), which moves the
whole curve and says nothing about its shape; and from load to load. The second is pooled over the loads: with two
repeats of eight loads it has seven degrees of freedom instead of one for each load, and Student's t is no longer wild.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loadstair.analysis.statistics.bootstrap import CONFIDENCE, DRAWS, SMALLEST_SHARE, Z, interval, student_draws
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import LoadStep

KNEE_GAIN_MIN = 1.3
"""Throughput gained per doubling of the load below which more load is not worth it; 2.0 would be linear scaling."""
LOG2_KNEE_GAIN = math.log2(KNEE_GAIN_MIN)
"""The same as a slope of log(throughput) over log(load): 1 is linear scaling, 0 a plateau."""
MISFIT_P = 0.01
"""A worse fit than this share of fits to curves that do follow the law, with the same noise, is a bad one."""
SPREAD_MIN = 1e-3
"""No throughput is taken to be known better than this, relatively: no model of a server is."""
EXPONENT_MAX = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    loads: FloatArray
    """Shape [loads], rising."""
    log_tokens: FloatArray
    """Shape [loads]: of output tokens per second."""
    deviations: FloatArray
    """Shape [DRAWS, loads]: by how much `log_tokens` may be off, independently at each load."""
    shared: FloatArray
    """Shape [DRAWS]: by how much all of it may be off together."""
    spread: FloatArray
    """Shape [loads]: the standard deviation that `deviations` amounts to."""

    @property
    def lowest(self) -> float:
        return float(self.loads[0])

    @property
    def highest(self) -> float:
        return float(self.loads[-1])

    def draws(self, scale: float = 1.0) -> FloatArray:
        """Shape [DRAWS, loads]: `log_tokens` as they may truly be, but for what all loads share."""
        return np.asarray(self.log_tokens + scale * self.deviations, dtype=np.float64)

    def tokens_at(self, load: float) -> Estimate:
        """Interpolated in the logarithms of both; `load` lies inside the range."""
        log_load, log_loads = math.log(load), np.log(self.loads)
        after = int(np.clip(np.searchsorted(log_loads, log_load), 1, len(log_loads) - 1))
        share = (log_load - log_loads[after - 1]) / (log_loads[after] - log_loads[after - 1])

        def between(values: FloatArray) -> FloatArray:
            return np.asarray((1 - share) * values[..., after - 1] + share * values[..., after], dtype=np.float64)

        return estimate_of(
            float(np.exp(between(self.log_tokens))), np.exp(between(self.draws()) + self.shared), len(self.loads)
        )


def curve_of(steps: Sequence[LoadStep], rng: np.random.Generator) -> Curve | None:
    """Of the steps whose throughput is positive and has an interval; None with fewer than two."""
    told = [step for step in steps if step.tokens.value > 0 and step.tokens.bounded]
    if len(told) < 2:
        return None
    log_tokens = np.log(np.array([step.tokens.value for step in told]))
    # Shuffled, so that the n-th draws of two loads do not belong together by their order.
    within = np.stack([rng.permutation(_log_deviations(step)) for step in told], axis=1)
    spread = _spread(within)
    repeats = _between_repeats(told)
    if repeats is None:
        return Curve(
            loads=np.array([step.load for step in told]),
            log_tokens=log_tokens,
            deviations=within,
            shared=np.zeros(DRAWS),
            spread=np.maximum(spread, SPREAD_MIN),
        )
    deviates = np.stack([student_draws(repeats.degrees, rng) for _ in told], axis=1)
    between = np.clip(deviates * repeats.error, -EXPONENT_MAX, EXPONENT_MAX)
    wider = _spread(between) > spread
    shared = student_draws(len(repeats.levels) - 1, rng) * repeats.levels.std(ddof=1) / math.sqrt(len(repeats.levels))
    return Curve(
        loads=np.array([step.load for step in told]),
        log_tokens=log_tokens - repeats.offset,
        deviations=np.where(wider, between, within),
        shared=np.clip(shared, -EXPONENT_MAX, EXPONENT_MAX),
        spread=np.maximum(np.where(wider, _spread(between), spread), SPREAD_MIN),
    )


class KneeFit(Protocol):
    """A law fitted to a curve, and where it has the knee."""

    @property
    def knee_load(self) -> Estimate:
        """Nothing unless its whole interval lies inside the measured range."""

    @property
    def log_knee_draws(self) -> FloatArray:
        """Shape [DRAWS]; infinite where a draw has none."""

    @property
    def bic(self) -> float: ...

    @property
    def misfit(self) -> bool:
        """The curve is off the law by more than its noise explains."""

    def log_tokens_at(self, loads: FloatArray) -> FloatArray:
        """Shape [DRAWS, loads]: what each draw expects there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """How far a fit is off the curve."""

    ratio: float
    """Sum of squares over degrees of freedom: about 1 where the noise explains them."""
    misfit: bool
    """They are larger than the noise explains."""

    @property
    def scale(self) -> float:
        """What the deviations are to be multiplied by: the noise alone promises too much of a wrong fit."""
        return math.sqrt(max(1.0, self.ratio)) if self.misfit else 1.0


def residuals(squares: float, degrees: int, squares_by_noise: FloatArray) -> Residuals:
    """`squares_by_noise`: of refits to the fitted curve with the measurement's own noise, shape [DRAWS]."""
    return Residuals(ratio=squares / degrees, misfit=float((squares_by_noise >= squares).mean()) < MISFIT_P)


def estimate_of(value: float, draws: FloatArray, n: int, findings: tuple[Finding, ...] = ()) -> Estimate:
    low, high = interval(draws)
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=n, findings=findings)


def log_interval_ends(log_value: float, log_draws: FloatArray) -> tuple[float, float]:
    """The 95 % interval of a number whose logarithm has these draws; the value lies inside."""
    low, high = interval(log_draws)
    return math.exp(min(low, log_value)), math.exp(max(high, log_value))


def load_inside(curve: Curve, log_load: float, log_load_draws: FloatArray, id_: str, noun: str = "knee") -> Estimate:
    """Nothing, with the reason, unless the whole interval lies inside the measured range."""
    low, high = interval(np.clip(log_load_draws, -700, 700))
    low, high = min(low, log_load), max(high, log_load)
    count = len(curve.loads)
    if math.log(curve.lowest) <= low and high <= math.log(curve.highest):
        return Estimate(value=math.exp(log_load), low=math.exp(low), high=math.exp(high), n=count)
    where = f"below load {curve.highest:g}" if high > math.log(curve.highest) else f"above load {curve.lowest:g}"
    message = f"no {noun} inside the range: it is not {where} with confidence"
    return Estimate.nothing(count, (Finding.info(f"{id_}.no_{noun.replace(' ', '_')}", message),))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repeats:
    levels: FloatArray
    """Shape [repeats]: the logarithm of the factor that a repeat's loads share; they sum to 0."""
    offset: FloatArray
    """Shape [loads]: what the levels add to a load; not 0 where a repeat lacks it (an extra step, an invalid one)."""
    error: FloatArray
    """Shape [loads]: standard error of the mean over a load's repeats."""
    degrees: int


def _between_repeats(steps: Sequence[LoadStep]) -> _Repeats | None:
    """log(throughput) = load's level + repeat's level + rest, by least squares; None without a degree of freedom."""
    cells = [
        (place, repeat, math.log(value))
        for place, step in enumerate(steps)
        for repeat, value in step.tokens.by_repeat.items()
        if value > 0
    ]
    names = sorted({repeat for _, repeat, _ in cells})
    degrees = len(cells) - len(steps) - len(names) + 1
    if len(names) < 2 or degrees < 1:
        return None
    of_load = np.array([place for place, _, _ in cells])
    of_repeat = np.array([names.index(repeat) for _, repeat, _ in cells])
    values = np.array([value for _, _, value in cells])
    design = np.hstack([np.eye(len(steps))[of_load], np.eye(len(names))[of_repeat]])
    found = np.linalg.lstsq(design, values)[0]
    rest = values - design @ found
    levels = found[len(steps) :] - found[len(steps) :].mean()
    counts = np.bincount(of_load, minlength=len(steps))
    return _Repeats(
        levels=levels,
        offset=np.bincount(of_load, weights=levels[of_repeat], minlength=len(steps)) / np.maximum(1, counts),
        error=math.sqrt(float(rest @ rest) / degrees) / np.sqrt(np.maximum(1, counts)),
        degrees=degrees,
    )


def _log_deviations(step: LoadStep) -> FloatArray:
    # A draw at zero stands for "near nothing": it belongs into the tail, but has no logarithm.
    shares = np.maximum(step.tokens.within / step.tokens.value, SMALLEST_SHARE)
    return np.asarray(np.log(shares), dtype=np.float64)


def _spread(deviations: FloatArray) -> FloatArray:
    """Shape [loads]: half the 95 % interval over what it is for a normal distribution; not moved by wild draws."""
    low, high = np.quantile(deviations, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return np.asarray((high - low) / (2 * Z), dtype=np.float64)
