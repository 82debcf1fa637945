"""What the live view knows at a moment: plain values, made by the board, shown by the pages, the tab and the table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A metric over some requests (or gaps), in ms. All but `n` are None without any."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Over a span of time. Latencies are those of requests that ended well in it, `itl_ms` has all their gaps: of an
    answer longer than the span, also those before it, and none while it is under way. Tokens are those that arrived in
    it. A rate is None where the span is too short for one."""

    span_s: float
    ok: int
    failed: int
    ttft_ms: Spread
    itl_ms: Spread
    tpot_ms: Spread
    e2e_ms: Spread
    output_tokens_per_s: float | None
    requests_per_s: float | None
    goodput_rps: float | None
    """Requests per second within the limits given; None without limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One point of the live charts: the numbers of `numbers.span_s` before `time_s` (epoch seconds)."""

    time_s: float
    users: int
    in_flight: int
    numbers: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The service level objective given as options, for one request each; None: no such limit."""

    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
