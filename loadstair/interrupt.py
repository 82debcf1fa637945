"""SIGINT and SIGTERM become one exception in the main thread, so that every `with` block takes its part down."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loadstair.errors import Interrupted


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises Interrupted; later ones are ignored: taking down is bounded by its own
    deadlines, and a second exception in it would leave processes behind."""
    raised = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
