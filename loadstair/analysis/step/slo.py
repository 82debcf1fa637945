"""Limits: of single requests (goodput) and of a step's percentiles (SLO met or not)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadstair.analysis.statistics.bootstrap import Blocked, enough_for
from loadstair.analysis.step.latency import BoolArray, e2e_waited_ms, tpot_ms, ttft_waited_ms
from loadstair.plan.model import Slo

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What goodput holds every single request to; None where the SLO has no limit."""

    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


def request_limits(slo: Slo) -> RequestLimits:
    """Of several percentiles of a metric, the highest: the lower ones allow more than half of the requests beyond.

    Without a TPOT limit that of the ITL holds for a request's TPOT, which is the mean of its own gaps: a single gap
    is no property of a request, and goodput must not leave the limit out.
    """
    tpot_ms = _highest(slo.tpot_ms_p50, slo.tpot_ms_p90, slo.tpot_ms_p99)
    itl_ms = _highest(slo.itl_ms_p50, slo.itl_ms_p90, slo.itl_ms_p99)
    e2e_s = slo.e2e_s_max if slo.e2e_s_max is not None else _highest(slo.e2e_s_p50, slo.e2e_s_p90, slo.e2e_s_p99)
    return RequestLimits(
        ttft_ms=_highest(slo.ttft_ms_p50, slo.ttft_ms_p90, slo.ttft_ms_p99),
        tpot_ms=tpot_ms if tpot_ms is not None else itl_ms,
        e2e_ms=None if e2e_s is None else e2e_s * MS_PER_S,
    )


def within_limits(requests: pd.DataFrame, limits: RequestLimits) -> BoolArray:
    """Shape [n]. A request without a first token fails a TTFT limit; one with a single token has no TPOT to fail."""
    good = np.ones(len(requests), dtype=bool)
    if limits.ttft_ms is not None:
        good &= ttft_waited_ms(requests) <= limits.ttft_ms
    if limits.tpot_ms is not None:
        tpot = tpot_ms(requests)
        good &= np.isnan(tpot) | (tpot <= limits.tpot_ms)
    if limits.e2e_ms is not None:
        good &= e2e_waited_ms(requests) <= limits.e2e_ms
    return good


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitResult:
    """One limit of the SLO on one step. `share_beyond` is of the samples; None where there were none."""

    name: str
    limit: float
    """In the unit that the name says."""
    share_beyond: float | None
    met: bool | None
    """None where there are too few samples to tell."""


def limit_results(
    slo: Slo, values_ms: Mapping[str, Sequence[Blocked]], error_rate: float | None
) -> tuple[LimitResult, ...]:
    """`values_ms`: samples by metric (ttft, itl, tpot, e2e), pooled here.

    A percentile's limit is met when no larger share of the samples than the percentile allows lies beyond it. With
    fewer samples than the percentile is told from it is never known to be met, and violated only if more lie beyond
    than it would allow had all the missing samples been within.
    """
    results = []
    for metric, unit, factor in (("ttft", "ms", 1.0), ("itl", "ms", 1.0), ("tpot", "ms", 1.0), ("e2e", "s", MS_PER_S)):
        for percentile, quantile in QUANTILES.items():
            limit: float | None = getattr(slo, f"{metric}_{unit}_{percentile}")
            if limit is not None:
                name = f"{metric}_{unit}_{percentile}"
                results.append(_limit_result(name, limit, values_ms[metric], limit * factor, quantile))
    if slo.e2e_s_max is not None:
        results.append(_limit_result("e2e_s_max", slo.e2e_s_max, values_ms["e2e"], slo.e2e_s_max * MS_PER_S, None))
    if slo.error_rate_max is not None:
        met = None if error_rate is None else error_rate <= slo.error_rate_max
        results.append(LimitResult(name="error_rate_max", limit=slo.error_rate_max, share_beyond=error_rate, met=met))
    return tuple(results)


def slo_met(results: tuple[LimitResult, ...]) -> bool | None:
    """False as soon as one limit is violated; None where none is but one is not known, or none was given."""
    if any(result.met is False for result in results):
        return False
    return True if results and all(result.met for result in results) else None


def _limit_result(
    name: str, limit: float, values_ms: Sequence[Blocked], limit_ms: float, quantile: float | None
) -> LimitResult:
    """`quantile` None: no value may lie beyond."""
    n = sum(part.n for part in values_ms)
    if n == 0:
        return LimitResult(name=name, limit=limit, share_beyond=None, met=None)
    beyond = sum(part.beyond(limit_ms) for part in values_ms)
    needed = 1 if quantile is None else enough_for(quantile)
    allowed = 0.0 if quantile is None else 1 - quantile
    # 1 - 0.99 is a little above 0.01 in floating point; a share is a multiple of 1/n, so this cannot blur two shares.
    met: bool | None = beyond / max(n, needed) <= allowed + 1e-12
    if met and n < needed:
        met = None
    return LimitResult(name=name, limit=limit, share_beyond=beyond / n, met=met)


def _highest(p50: float | None, p90: float | None, p99: float | None) -> float | None:
    return p99 if p99 is not None else p90 if p90 is not None else p50
