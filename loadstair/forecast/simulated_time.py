"""Time that passes only when somebody waits: what is due meanwhile happens, in order."""

import heapq
import itertools
from collections.abc import Callable

from loadstair.units import ns_from_s


class SimulatedTime:
    """A `loadstair.clock.Clock`; both of its clocks are one. Not for several threads."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Of several at one time, the one that was told first happens first. What is past happens next."""
        heapq.heappush(self._events, (time_ns, next(self._order), action))

    def sleep_s(self, seconds: float) -> None:
        self.run_until(self._now_ns + ns_from_s(seconds))

    def run_until(self, end_ns: int) -> None:
        """What is due at the very end happens too."""
        events = self._events
        while events and events[0][0] <= end_ns:
            time_ns, _, action = heapq.heappop(events)
            self._now_ns = max(self._now_ns, time_ns)
            action()
        self._now_ns = max(self._now_ns, end_ns)

    def run_out(self) -> None:
        """Until nothing is due any more."""
        while self._events:
            self.run_until(self._events[0][0])
