"""SIGINT, SIGTERM and SIGHUP become one exception in the main thread: every `with` block takes its part down."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loadstair.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first of the signals raises Interrupted; later ones are ignored, until the block is left: taking down
    is bounded by its own deadlines, and so is reporting what there is; a second exception in them would leave processes
    behind, or lose the report.

    A signal that was ignored before (nohup) stays ignored.
    """
    raised = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
