"""What lies between a client's stamps and the engine's steps. Small, and the same for every request."""

from dataclasses import dataclass
from typing import Final

from loadstair.units import NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    to_engine_ns: int
    """From the client's send to the engine's queue."""
    to_client_ns: int
    """From the end of a step to the stamp of its token at the client."""
    turnaround_ns: int
    """From a response's last token to the user's next send."""
    balancer_ns: int
    """That a balancer adds, each way."""


SERVED: Final = Delays(
    to_engine_ns=NS_PER_MS * 6 // 10,
    to_client_ns=NS_PER_MS * 3 // 10,
    turnaround_ns=NS_PER_MS * 13 // 10,
    balancer_ns=NS_PER_MS // 10,
)
"""Of the served engine, nginx and Locust's workers on loopback; `bench/forecast.py` holds them against a real run."""
