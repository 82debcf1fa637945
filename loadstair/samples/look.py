"""A load that goes on, looked at: what the orchestrator asks the workers for while a step runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All but the first two are totals since the visit began, as far as the workers have parsed: a stream that is under
    way shows with a delay of some 40 tokens."""

    time_s: float
    """On a clock that is never stepped."""
    in_flight: int
    tokens: int
    first_tokens: int
    """Requests whose first token has come."""
    ttft_s_sum: float
    """Of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLatencies:
    """Of the ok requests of the current step's hold that have their record by now; within 1 %. None: no such value."""

    requests: int
    ttft_ms_p50: float | None
    ttft_ms_p99: float | None
    itl_ms_p50: float | None
    itl_ms_p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatus:
    """How the load is now."""

    workers: tuple[str, ...]
    workers_lost: tuple[str, ...]
    users: int
    in_flight: int
    in_flight_hold: int
    started_users: int
    tokens: int
    """A total since the visit began, as the next two; `Look` says how far they reach."""
    first_tokens: int
    ttft_ns_sum: int
    latencies: HoldLatencies
