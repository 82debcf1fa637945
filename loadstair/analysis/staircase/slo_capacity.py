"""The load up to which a topology meets its SLO, as an estimate between two steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.staircase.placement import slo_bracket
from loadstair.analysis.statistics.bootstrap import Measured, interval
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import LoadStep
from loadstair.analysis.step.slo import MS_PER_S, QUANTILES


def slo_capacity(steps: Sequence[LoadStep], rng: np.random.Generator) -> Estimate:
    """Where the first of the violated limits is reached between the highest load that meets the SLO, with all below it,
    and the first above that violates it.

    A percentile's logarithm is taken as linear in the load's between two steps; its draws give the interval, which ends
    at the two steps. A limit of every request (e2e_s_max, error_rate_max) has no value to interpolate: then the lower
    load is told, and the interval reaches to the upper. Nothing where no step violates the SLO, or the first one does.
    """
    if not any(step.slo for step in steps):
        return Estimate.nothing()
    bracket = slo_bracket(steps)
    if bracket is None:
        return Estimate.nothing(len(steps), (_not_bracketed(steps),))
    met, violating = bracket
    places = [_place(met, violating, limit.name, limit.limit, rng) for limit in violating.slo if limit.met is False]
    told = [place for place in places if place is not None]
    if not told or len(told) < len(places):
        return Estimate(value=met.load, low=met.load, high=violating.load, n=len(steps))
    span = math.log(violating.load / met.load)
    value = met.load * math.exp(span * min(place.value for place in told))
    draws = [place.draws for place in told if place.draws is not None]
    if len(draws) < len(told):
        return Estimate(value=value, low=met.load, high=violating.load, n=len(steps))
    low, high = interval(np.min(draws, axis=0))
    return Estimate(
        value=value,
        low=min(value, met.load * math.exp(span * low)),
        high=max(value, met.load * math.exp(span * high)),
        n=len(steps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Of the way between the two loads, on a logarithmic scale, 0 to 1."""

    value: float
    draws: FloatArray | None
    """Shape [DRAWS]; None where one of the percentiles has no interval."""


def _place(met: LoadStep, violating: LoadStep, name: str, limit: float, rng: np.random.Generator) -> _Place | None:
    """None for a limit that is no percentile's, and where the percentile does not rise."""
    metric, unit, percentile = name.split("_")
    if percentile not in QUANTILES:
        return None
    before, after = met.percentile(metric, percentile), violating.percentile(metric, percentile)
    if before is None or after is None or before.value <= 0 or after.value <= before.value:
        return None
    log_limit = math.log(limit * (MS_PER_S if unit == "s" else 1.0))
    value = _share(math.log(before.value), math.log(after.value), log_limit)
    if not (before.bounded and after.bounded):
        return _Place(value=float(value), draws=None)
    # Shuffled, so that the n-th draws of the two loads do not belong together by their order.
    draws = _share(_logs(before), rng.permutation(_logs(after)), log_limit)
    return _Place(value=float(value), draws=draws)


def _share(before: FloatArray | float, after: FloatArray | float, limit: float) -> FloatArray:
    rise = np.maximum(np.asarray(after) - before, 1e-9)
    return np.asarray(np.clip((limit - np.asarray(before)) / rise, 0.0, 1.0), dtype=np.float64)


def _logs(number: Measured) -> FloatArray:
    return np.asarray(np.log(np.maximum(number.draws, number.value * 1e-6)), dtype=np.float64)


def _not_bracketed(steps: Sequence[LoadStep]) -> Finding:
    valid = [step for step in steps if step.valid]
    if valid and not any(step.slo_met is False for step in valid):
        message = f"the SLO is not known to be violated up to load {valid[-1].load:g}: add higher load.steps"
    else:
        message = "no load is known to meet the SLO with all below it: start lower, or lengthen load.hold_s"
    return Finding.info("capacity.slo_not_bracketed", message)
