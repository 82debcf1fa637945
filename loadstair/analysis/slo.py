"""Limits: of single requests (goodput) and of a step's percentiles (SLO met or not)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadstair.analysis.latency import BoolArray, FloatArray, e2e_ms, tpot_ms, ttft_ms
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
    """Of several percentiles of a metric, the highest: the lower ones allow more than half of the requests beyond."""
    e2e_s = slo.e2e_s_max if slo.e2e_s_max is not None else _highest(slo.e2e_s_p50, slo.e2e_s_p90, slo.e2e_s_p99)
    return RequestLimits(
        ttft_ms=_highest(slo.ttft_ms_p50, slo.ttft_ms_p90, slo.ttft_ms_p99),
        tpot_ms=_highest(slo.tpot_ms_p50, slo.tpot_ms_p90, slo.tpot_ms_p99),
        e2e_ms=None if e2e_s is None else e2e_s * MS_PER_S,
    )


def within_limits(requests: pd.DataFrame, limits: RequestLimits) -> BoolArray:
    """Shape [n]. A request without a first token fails a TTFT limit; one with a single token has no TPOT to fail."""
    good = np.ones(len(requests), dtype=bool)
    if limits.ttft_ms is not None:
        good &= ttft_ms(requests) <= limits.ttft_ms
    if limits.tpot_ms is not None:
        tpot = tpot_ms(requests)
        good &= np.isnan(tpot) | (tpot <= limits.tpot_ms)
    if limits.e2e_ms is not None:
        good &= e2e_ms(requests) <= limits.e2e_ms
    return good


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitResult:
    """One limit of the SLO on one step. `share_beyond` is of the samples; None where there were none."""

    name: str
    limit: float
    """In the unit that the name says."""
    share_beyond: float | None
    met: bool | None


def limit_results(slo: Slo, values_ms: Mapping[str, FloatArray], error_rate: float | None) -> tuple[LimitResult, ...]:
    """`values_ms`: pooled samples by metric (ttft, itl, tpot, e2e).

    A percentile's limit is met when no larger share of the samples than the percentile allows lies beyond it: this
    says the same as comparing the percentile, and also works below the samples that a percentile is told from.
    """
    results = []
    for metric, unit, factor in (("ttft", "ms", 1.0), ("itl", "ms", 1.0), ("tpot", "ms", 1.0), ("e2e", "s", MS_PER_S)):
        for percentile, quantile in QUANTILES.items():
            limit: float | None = getattr(slo, f"{metric}_{unit}_{percentile}")
            if limit is not None:
                name = f"{metric}_{unit}_{percentile}"
                results.append(_limit_result(name, limit, values_ms[metric], limit * factor, 1 - quantile))
    if slo.e2e_s_max is not None:
        results.append(_limit_result("e2e_s_max", slo.e2e_s_max, values_ms["e2e"], slo.e2e_s_max * MS_PER_S, 0.0))
    if slo.error_rate_max is not None:
        met = None if error_rate is None else error_rate <= slo.error_rate_max
        results.append(LimitResult(name="error_rate_max", limit=slo.error_rate_max, share_beyond=error_rate, met=met))
    return tuple(results)


def slo_met(results: tuple[LimitResult, ...]) -> bool | None:
    """None where no limit could be judged, or none was given."""
    judged = [result.met for result in results if result.met is not None]
    return all(judged) if judged else None


def _limit_result(name: str, limit: float, values_ms: FloatArray, limit_ms: float, allowed: float) -> LimitResult:
    if len(values_ms) == 0:
        return LimitResult(name=name, limit=limit, share_beyond=None, met=None)
    beyond = float((values_ms > limit_ms).mean())
    # 1 - 0.99 is a little above 0.01 in floating point; a share is a multiple of 1/n, so this cannot blur two shares.
    return LimitResult(name=name, limit=limit, share_beyond=beyond, met=beyond <= allowed + 1e-12)


def _highest(p50: float | None, p90: float | None, p99: float | None) -> float | None:
    return p99 if p99 is not None else p90 if p90 is not None else p50
