"""One look at a load that goes on: what the orchestrator asks the workers for while a step runs."""

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
