"""Whether an SLO holds as time goes on: windows of successive requests, in the order of their dispatch.

A window has as many requests as the SLO's highest percentile is told from. By the percentile alone a server that just
meets its SLO would violate it in every fourth window of 100; so a window counts as violated only where so many lie
beyond a limit that chance gives it once in a thousand windows of a server that just meets it. What follows the last
violated window must also meet the limits as a whole, as a step must.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from loadstair.analysis.statistics.distributions import binomial_exceeded
from loadstair.analysis.step import latency
from loadstair.analysis.step.latency import BoolArray, FloatArray
from loadstair.analysis.step.slo import MS_PER_S, QUANTILES
from loadstair.analysis.step.verdict import ERROR_RATE_MAX
from loadstair.plan.model import Slo
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.record import Outcome

REQUESTS = 50
REQUESTS_FOR_P99 = 100
CHANCE = 0.001
CHANCE_AS_A_WHOLE = 0.01
"""There is one such look at what follows, and many windows."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of an SLO, on requests in the order of their dispatch."""

    name: str
    allowed: float
    """Share that may lie beyond."""
    critical: float
    """Share of a window from which on it is violated."""
    beyond: FloatArray
    """Shape [requests]: how many samples of the request lie beyond; more than one only for gaps."""
    of: FloatArray
    """Shape [requests]: how many samples it has; 0 where it has none to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """When the SLO was lost and regained, as positions of requests. None of them where it was never lost."""

    first: int | None
    """The first request beyond a limit in the first violated window."""
    last: int | None
    """The last request before the first one within its limits from which on no window is violated; None also where that
    does not come within what was seen."""


def window_requests(slo: Slo) -> int:
    """Requests in a window."""
    p99 = any(getattr(slo, name) is not None for name in Slo.model_fields if name.endswith("_p99"))
    return REQUESTS_FOR_P99 if p99 else REQUESTS


def limits_of(slo: Slo, samples: Samples) -> tuple[Limit, ...]:
    """`samples` in the order of dispatch, without killed ones. Failed requests have no latency; they count against
    `error_rate_max`, and against 1 % where the SLO has none. In an open loop TTFT and e2e count from when a request was
    due, as a step's SLO does."""
    requests = samples.requests
    ok = (requests["outcome"] == Outcome.OK).to_numpy(dtype=bool)
    size = window_requests(slo)
    values = {
        "ttft_ms": latency.ttft_waited_ms(requests),
        "tpot_ms": latency.tpot_ms(requests),
        "e2e_s": latency.e2e_waited_ms(requests) / MS_PER_S,
    }
    limits = []
    for percentile, quantile in QUANTILES.items():
        for metric, told in values.items():
            limit: float | None = getattr(slo, f"{metric}_{percentile}")
            if limit is not None:
                beyond, of = _requests_beyond(told, limit, ok)
                limits.append(_limit(f"{metric}_{percentile}", 1 - quantile, size, beyond, of))
        gap_limit: float | None = getattr(slo, f"itl_ms_{percentile}")
        if gap_limit is not None:
            beyond, of = _gaps_beyond(samples, gap_limit, ok)
            limits.append(_limit(f"itl_ms_{percentile}", 1 - quantile, size, beyond, of))
    if slo.e2e_s_max is not None:
        beyond, of = _requests_beyond(values["e2e_s"], slo.e2e_s_max, ok)
        limits.append(_limit("e2e_s_max", 0.0, size, beyond, of))
    rate = ERROR_RATE_MAX if slo.error_rate_max is None else slo.error_rate_max
    limits.append(_limit("error_rate_max", rate, size, (~ok).astype(np.float64), np.ones(len(ok))))
    return tuple(limits)


def _limit(name: str, allowed: float, size: int, beyond: FloatArray, of: FloatArray) -> Limit:
    """The gaps of a request resemble each other, so a window of gaps is held to what its requests alone would tell."""
    critical = 1 if allowed == 0 else int(binomial_exceeded(CHANCE, size, allowed)) + 1
    return Limit(name=name, allowed=allowed, critical=min(1.0, critical / size), beyond=beyond, of=of)


def _requests_beyond(values: FloatArray, limit: float, ok: BoolArray) -> tuple[FloatArray, FloatArray]:
    told = ok & ~np.isnan(values)
    return (told & (values > limit)).astype(np.float64), told.astype(np.float64)


def _gaps_beyond(samples: Samples, limit_ms: float, ok: BoolArray) -> tuple[FloatArray, FloatArray]:
    beyond, of = latency.gaps_beyond(samples, limit_ms), samples.arrivals.gap_counts()
    return np.where(ok, beyond, 0).astype(np.float64), np.where(ok, of, 0).astype(np.float64)


def taken(limits: Sequence[Limit], rows: IntArray) -> tuple[Limit, ...]:
    """The same limits on these requests."""
    return tuple(replace(one, beyond=one.beyond[rows], of=one.of[rows]) for one in limits)


def met(limits: Sequence[Limit]) -> bool:
    """Whether all requests together meet the limits, within what chance gives a server that just meets them."""
    count = len(limits[0].of)
    return all(one.beyond.sum() <= _tolerated(count, one.allowed)[0] * max(1.0, float(one.of.sum())) for one in limits)


@lru_cache(maxsize=64)
def _tolerated(count: int, allowed: float) -> FloatArray:
    """Shape [count]: the share beyond that all requests from each one on may have."""
    left = np.arange(count, 0, -1)
    if allowed == 0:
        return np.zeros(count)
    return binomial_exceeded(CHANCE_AS_A_WHOLE, left, allowed) / left + ROUNDING


def shares(limit: Limit, size: int) -> FloatArray:
    """Share beyond in each window, shape [requests - size + 1], 0 where a window has nothing to judge."""
    beyond, of = (_sums(values, size) for values in (limit.beyond, limit.of))
    return np.asarray(beyond / np.maximum(1.0, of), dtype=np.float64)


def _sums(values: FloatArray, size: int) -> FloatArray:
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(cumulative[size:] - cumulative[:-size], dtype=np.float64)


def course(limits: Sequence[Limit], size: int) -> Course:
    """Needs at least `size` requests."""
    violated = np.stack([shares(one, size) >= one.critical - ROUNDING for one in limits])
    windows = np.flatnonzero(violated.any(axis=0))
    if len(windows) == 0:
        return Course(first=None, last=None)
    first, last = int(windows[0]), int(windows[-1])
    lost_at = first + int(np.argmax(_beyond(limits, violated[:, first])[first:]))
    within = np.flatnonzero(~_beyond(limits, violated[:, last])[last + 1 :])
    candidate = last + 1 + int(within[0]) if len(within) else len(limits[0].of)
    rest_met = np.ones(len(limits[0].of), dtype=bool)
    for one in limits:
        # From each request on to the end.
        beyond, of = (np.cumsum(values[::-1])[::-1] for values in (one.beyond, one.of))
        rest_met &= beyond <= _tolerated(len(of), one.allowed) * np.maximum(1.0, of)
    holds = np.flatnonzero(rest_met[candidate:])
    start = candidate + int(holds[0]) if len(holds) else len(rest_met)
    return Course(first=lost_at, last=start - 1 if len(rest_met) - start >= size else None)


def _beyond(limits: Sequence[Limit], chosen: BoolArray) -> BoolArray:
    """Shape [requests]: those that lie beyond one of the chosen limits themselves."""
    beyond = np.zeros(len(limits[0].of), dtype=bool)
    for one, wanted in zip(limits, chosen, strict=True):
        if wanted:
            beyond |= one.beyond > one.allowed * one.of
    return beyond
