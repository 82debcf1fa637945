"""The one place that asks what time it is; everywhere else a time is an argument.

Kernel receive stamps are CLOCK_REALTIME, so everything that is compared with them is too. Deadlines and
durations of waits use the monotonic clock, which no clock step can move.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from loadstair.units import NS_PER_MS, NS_PER_S, ns_from_s

OFFSET_ERROR_NS_MAX = NS_PER_MS // 10
OFFSET_READINGS_MAX = 5


now_ns: Final = time.time_ns
"""CLOCK_REALTIME, ns since the epoch: the run's clock. The function itself: it is called three times a token."""


def monotonic_ns() -> int:
    return time.monotonic_ns()


def utc_now() -> datetime:
    return datetime.now(tz=UTC)


def realtime_minus_monotonic_ns(
    realtime_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
) -> int:
    """Offset of the two clocks; a change of more than a few ms means the wall clock was stepped.

    The monotonic clock is read on both sides of the other. Where the two are far apart, the process was kept from
    running in between, and it is tried again; after some tries the closest reading counts.
    """
    apart_ns, offset_ns = _offset(realtime_ns, monotonic_ns)
    for _ in range(OFFSET_READINGS_MAX - 1):
        if apart_ns <= OFFSET_ERROR_NS_MAX:
            break
        apart_ns, offset_ns = min((apart_ns, offset_ns), _offset(realtime_ns, monotonic_ns))
    return offset_ns


def _offset(realtime_ns: Callable[[], int], monotonic_ns: Callable[[], int]) -> tuple[int, int]:
    """How long the reading took, and the offset against the middle of it."""
    before_ns = monotonic_ns()
    real_ns = realtime_ns()
    after_ns = monotonic_ns()
    return after_ns - before_ns, real_ns - (before_ns + after_ns) // 2


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock shared by every wait inside it."""

    at_ns: int
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    """The clock it lies on."""

    @classmethod
    def after_s(cls, seconds: float, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> "Deadline":
        return cls(monotonic_ns() + ns_from_s(seconds), monotonic_ns)

    def left_s(self) -> float:
        """Seconds left, 0.0 when it has passed."""
        return max(0.0, (self.at_ns - self.monotonic_ns()) / NS_PER_S)

    def passed(self) -> bool:
        return self.monotonic_ns() >= self.at_ns


def sleep_s(seconds: float) -> None:
    time.sleep(seconds)


class Clock(Protocol):
    """Whose time a climb goes by: this machine's, or a simulation's."""

    def now_ns(self) -> int:
        """ns since the epoch: the run's clock."""

    def monotonic_ns(self) -> int:
        """Never stepped."""

    def sleep_s(self, seconds: float) -> None:
        """Returns when they have passed."""


class MachineClock:
    """The functions of this module."""

    now_ns = staticmethod(now_ns)
    monotonic_ns = staticmethod(monotonic_ns)
    sleep_s = staticmethod(sleep_s)
