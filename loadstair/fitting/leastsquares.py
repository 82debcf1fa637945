"""Factors by least squares on log ratios, each held near 1 by a prior, as far as the data do not say otherwise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from loadstair.fitting.factors import Factor, Scales
from loadstair.fitting.figures import Z_95

FloatArray = npt.NDArray[np.float64]

DETERMINED_SD: Final = 0.5
"""A factor is fitted where the data leave at most so much of what its prior left open."""
STEP: Final = 1e-3
"""Of a logarithm, for derivatives."""
AT_BOUND: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFactor:
    """1 is what is shipped. The interval has 95 %."""

    factor: Factor
    value: float
    low: float
    high: float
    held: bool
    """At 1: the data do not determine it. The interval then is of what it might be."""
    at_bound: bool
    """As far from 1 as it may be: the engine may be further off."""

    @property
    def differs(self) -> bool:
        """From what is shipped, by more than its doubt."""
        return not self.held and not self.low <= 1 <= self.high


Residuals = Callable[[Scales], FloatArray]
"""Log ratios of measured to predicted, each over its standard deviation; shape [data]."""


def fit_factors(factors: Sequence[Factor], residuals: Residuals) -> tuple[FittedFactor, ...]:
    """One for each factor given. The intervals are those of a fit in which nothing is held, widened to the value: what
    was held at 1 in vain has gone into the others."""
    everything = range(len(factors))
    free = _determined(factors, residuals)
    chosen, unheld = (_solved(factors, places, residuals) for places in (free, everything))
    doubt = _log_sds(factors, everything, unheld, residuals, scatter=_scatter(factors, unheld, residuals))
    return tuple(
        _fitted(factor, chosen[place], unheld[place], doubt[place], held=place not in free)
        for place, factor in enumerate(factors)
    )


def _determined(factors: Sequence[Factor], residuals: Residuals) -> list[int]:
    """Places of the factors that the data determine. The worst of the others is held first, one after the other: what
    is held lets the rest be told apart."""
    free = list(range(len(factors)))
    while free:
        sds = _log_sds(factors, free, _solved(factors, free, residuals), residuals)
        left_open = {place: sds[place] / factors[place].prior_sd for place in free}
        worst = max(free, key=lambda place: left_open[place])
        if left_open[worst] <= DETERMINED_SD:
            break
        free.remove(worst)
    return free


def _fitted(factor: Factor, log: float, unheld_log: float, log_sd: float, *, held: bool) -> FittedFactor:
    near = min(abs(log - math.log(factor.low)), abs(log - math.log(factor.high)))
    low, high = min(log, unheld_log) - Z_95 * log_sd, max(log, unheld_log) + Z_95 * log_sd
    return FittedFactor(
        factor=factor,
        value=math.exp(log),
        low=max(factor.low, math.exp(low)),
        high=min(factor.high, math.exp(high)),
        held=held,
        at_bound=not held and bool(near < AT_BOUND),
    )


def _solved(factors: Sequence[Factor], free: Sequence[int], residuals: Residuals) -> FloatArray:
    """Logarithms of all factors; 0 for those that are not free."""
    logs = np.zeros(len(factors))
    if not free:
        return logs

    def with_prior(values: FloatArray) -> FloatArray:
        logs[list(free)] = values
        prior = [value / factors[place].prior_sd for place, value in zip(free, values, strict=True)]
        return np.concatenate([residuals(_scales(factors, logs)), prior])

    bounds = [[math.log(getattr(factors[place], end)) for place in free] for end in ("low", "high")]
    found = least_squares(with_prior, np.zeros(len(free)), bounds=(bounds[0], bounds[1]))
    logs[list(free)] = found.x
    return logs


def _log_sds(
    factors: Sequence[Factor],
    places: Sequence[int],
    logs: FloatArray,
    residuals: Residuals,
    *,
    scatter: float = 1.0,
) -> Mapping[int, float]:
    """Of the factors at these places, together, from the Jacobian at `logs`."""
    at = residuals(_scales(factors, logs))
    columns = []
    for place in places:
        moved = logs.copy()
        moved[place] += STEP
        columns.append((residuals(_scales(factors, moved)) - at) / STEP)
    jacobian = np.stack(columns, axis=1)
    prior = np.diag([factors[place].prior_sd ** -2 for place in places])
    covariance = np.linalg.inv(jacobian.T @ jacobian / scatter + prior)
    return {place: float(math.sqrt(covariance[row, row])) for row, place in enumerate(places)}


def _scatter(factors: Sequence[Factor], logs: FloatArray, residuals: Residuals) -> float:
    """Variance of the residuals, 1 where they are no larger than they should be: the doubt grows with it."""
    left = residuals(_scales(factors, logs))
    return max(1.0, float(left @ left) / max(1, len(left) - len(factors)))


def _scales(factors: Sequence[Factor], logs: FloatArray) -> Scales:
    return {factor.name: float(math.exp(log)) for factor, log in zip(factors, logs, strict=True)}
