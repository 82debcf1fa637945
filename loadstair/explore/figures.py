"""Tallies → the numbers that are shown."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from loadstair.explore.numbers import Limits, Numbers, Spread
from loadstair.explore.tally import Tally
from loadstair.samples.histogram import LogHistogram
from loadstair.units import ms_from_ns

SPAN_S_MIN: Final = 0.5
"""Shorter spans have no rate: one request more or less would change it too much."""


class Part(NamedTuple):
    """What one worker counted, and in how many seconds by its own clock."""

    tally: Tally
    span_s: float


def numbers(parts: Sequence[Part], limits: Limits) -> Numbers:
    """Of all parts together. Rates add up: each worker's over its own span."""
    whole = Tally()
    for part in parts:
        whole.merge(part.tally)
    limited = any(limit is not None for limit in (limits.ttft_ms, limits.tpot_ms, limits.e2e_ms))
    return Numbers(
        span_s=max((part.span_s for part in parts), default=0.0),
        ok=whole.ok,
        failed=whole.failed,
        ttft_ms=spread(whole.ttft),
        itl_ms=spread(whole.itl),
        tpot_ms=spread(whole.tpot),
        e2e_ms=spread(whole.e2e),
        output_tokens_per_s=_rate(parts, "tokens"),
        requests_per_s=_rate(parts, "ok"),
        goodput_rps=_rate(parts, "good") if limited else None,
    )


def spread(histogram: LogHistogram) -> Spread:
    p50, p90, p99 = histogram.percentiles_ns([0.5, 0.9, 0.99])
    return Spread(
        n=histogram.n,
        mean=ms_from_ns(histogram.mean_ns),
        p50=ms_from_ns(p50),
        p90=ms_from_ns(p90),
        p99=ms_from_ns(p99),
        max=ms_from_ns(histogram.max_ns),
    )


def _rate(parts: Sequence[Part], count: str) -> float | None:
    """A count can shrink where a server's own count of an answer is below what its chunks looked like: then 0."""
    rates = [max(0, getattr(part.tally, count)) / part.span_s for part in parts if part.span_s >= SPAN_S_MIN]
    return sum(rates) if rates else None
