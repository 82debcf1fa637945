"""Something small done again and again by a thread of its own, for as long as a block lasts."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Heartbeat:
    """`beat` must be bounded in time and raise nothing: leaving the block waits for one that is under way."""

    def __init__(self, beat: Callable[[], None], *, interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            self._beat()
