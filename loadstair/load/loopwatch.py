"""Since when the loop has not looked at its sockets: what may have waited unread, and so may have been merged.

The kernel stamps the newest of several segments that are read together; when the others came is lost. Whether our own
late read merged them can be told from how long the loop had been blind before that read.
Source: libev's manual, prepare and check watchers: called right before the loop asks the kernel, and right after.
"""

import resource
from typing import Final

import gevent

from loadstair.clock import now_ns
from loadstair.units import NS_PER_S, NS_PER_US

FIRST: Final = 2
LAST: Final = -2
"""Priorities of watchers: libev's EV_MAXPRI and EV_MINPRI."""
BLIND_NS_MAX: Final = 600 * NS_PER_S
IDLE_NS_MIN: Final = 20 * NS_PER_US
"""A look that took at least this long found nothing at first and waited: all that it then found had just come."""
BUSY_NS_MIN: Final = 500 * NS_PER_US
"""After so long a time it matters whether the look waited, or was itself kept waiting for the core."""


class LoopWatch:
    """`since_ns` (CLOCK_REALTIME): nothing that is readable now came before it."""

    def __init__(self) -> None:
        loop = gevent.get_hub().loop
        self.since_ns = self._woke_ns = self._asked_ns = now_ns()
        self._sleeps: int | None = None
        """Of this thread before the look; None if nobody needs to know."""
        # The loop's own prepare watcher runs the greenlets that are due: it belongs to the time the loop is blind.
        self._before = loop.prepare(ref=False, priority=LAST)
        self._after = loop.check(ref=False, priority=FIRST)
        self._before.start(self._note_asked)
        self._after.start(self._note_woken)

    def _note_asked(self) -> None:
        self._asked_ns = asked_ns = now_ns()
        self._sleeps = _sleeps() if asked_ns - self._woke_ns >= BUSY_NS_MIN else None

    def _note_woken(self) -> None:
        woke_ns = now_ns()
        waited = woke_ns - self._asked_ns >= IDLE_NS_MIN and (self._sleeps is None or _sleeps() > self._sleeps)
        # A socket that was readable at the last look was reported then: what a look finds at once came after that.
        self.since_ns = woke_ns if waited else self._woke_ns
        self._woke_ns = woke_ns

    def blind_ns(self, read_ns: int) -> int:
        """How long the loop had not looked, in a read at this time; 0 if the clock was stepped meanwhile."""
        blind_ns = read_ns - self.since_ns
        return blind_ns if 0 < blind_ns < BLIND_NS_MAX else 0

    def close(self) -> None:
        for watcher in (self._before, self._after):
            watcher.stop()
            watcher.close()


if hasattr(resource, "RUSAGE_THREAD"):

    def _sleeps() -> int:
        """How often this thread has gone to sleep of its own will."""
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

else:

    def _sleeps() -> int:
        """Not told by this system: a look after a busy time is taken for one that did not wait."""
        return 0
