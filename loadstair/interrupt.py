"""SIGINT, SIGTERM and SIGHUP become one exception in the main thread: every `with` block takes its part down.

Where Python ignores exceptions (in a weak reference's callback, as an import has them, or in `__del__`) the signal is
sent once more, a moment later: it would be lost, and the run could not be stopped.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loadstair.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.01


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first of the signals raises Interrupted; later ones are ignored, until the block is left: taking down
    is bounded by its own deadlines, and so is reporting what there is; a second exception in them would leave processes
    behind, or lose the report.

    A signal that was ignored before (nohup) stays ignored.
    """
    raised: int | None = None
    timers: list[threading.Timer] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if raised is None:
            raised = number
            raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    def ignored(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal raised
        if raised is None or not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)
            return
        timers.append(threading.Timer(AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, raised)))
        raised = None
        timers[-1].start()

    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    hook = sys.unraisablehook
    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
