"""An epoll selector that waits to the microsecond, so that steps end when they are planned to.

asyncio's own rounds every wait up to whole milliseconds (`epoll_wait` takes no less): steps end up to 1 ms late.
"""

import ctypes
import select
import selectors

PR_SET_TIMERSLACK = 29
TIMER_SLACK_NS = 1000
"""The kernel's default lets a timer fire 50 µs late, to save wake-ups."""


class MicrosecondEpollSelector(selectors.EpollSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            # select(2) takes microseconds, and an epoll descriptor is readable when one of its own is. It is opened
            # before any connection, so its number stays below select's limit of 1024.
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def reduce_timer_slack() -> bool:
    """Of this thread. False where the system has no such setting; timers are then about 50 µs later."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(TIMER_SLACK_NS), 0, 0, 0) == 0)
