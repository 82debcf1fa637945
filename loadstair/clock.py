"""The one place that asks what time it is; everywhere else a time is an argument.

Kernel receive stamps are CLOCK_REALTIME, so everything that is compared with them is too. Deadlines and
durations of waits use the monotonic clock, which no clock step can move.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from loadstair.units import NS_PER_S, ns_from_s


def now_ns() -> int:
    """CLOCK_REALTIME, ns since the epoch: the run's clock."""
    return time.time_ns()


def monotonic_ns() -> int:
    return time.monotonic_ns()


def utc_now() -> datetime:
    return datetime.now(tz=UTC)


def realtime_minus_monotonic_ns() -> int:
    """Offset of the two clocks; a change of more than a few ms means the wall clock was stepped."""
    return time.time_ns() - time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock shared by every wait inside it."""

    at_ns: int

    @classmethod
    def after_s(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic_ns() + ns_from_s(seconds))

    def left_s(self) -> float:
        """Seconds left, 0.0 when it has passed."""
        return max(0.0, (self.at_ns - time.monotonic_ns()) / NS_PER_S)

    def passed(self) -> bool:
        return time.monotonic_ns() >= self.at_ns


def sleep_s(seconds: float) -> None:
    time.sleep(seconds)
