"""A worker's clock against the master's, from questions and answers.

Source: RFC 5905, section 8 (offset and delay; the exchange with the least delay).
"""

from collections.abc import Iterable
from typing import NamedTuple

from loadstair.samples.runrecord import ClockReading


class Exchange(NamedTuple):
    """CLOCK_REALTIME."""

    sent_ns: int
    """By the master's clock."""
    there_ns: int
    """By the worker's, when it answered."""
    back_ns: int
    """By the master's."""


def clock_reading(worker: str, exchanges: Iterable[Exchange]) -> ClockReading:
    """From the exchange with the shortest way; the answer was given within it, so half of it is the uncertainty."""
    best = min(exchanges, key=lambda one: one.back_ns - one.sent_ns)
    middle_ns = (best.sent_ns + best.back_ns) // 2
    return ClockReading(
        worker=worker,
        offset_ns=best.there_ns - middle_ns,
        uncertainty_ns=(best.back_ns - best.sent_ns + 1) // 2,
        at_ns=middle_ns,
    )
