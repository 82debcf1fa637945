"""What a climb drives: Locust's processes (`drive.session`), or a load in simulated time (`forecast.load`)."""

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from loadstair.clock import Clock, Deadline
from loadstair.samples.look import LoadStatus
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import ClockReading, Counters


class DrivenLoad(Protocol):
    """`loadstair.drive.session.LoadSession` says what each of them does."""

    @property
    def clock(self) -> Clock:
        """Whose time its stamps are of, and that waits go by."""

    def begin_step(self, *, step: int, load: float, users: int, growth_s: float) -> int: ...

    def set_phase(self, phase: Phase) -> int: ...

    def status(self) -> LoadStatus: ...

    def flush(self) -> dict[int, Counters]: ...

    def clocks(self) -> tuple[ClockReading, ...]: ...

    def take_records(self) -> pa.Table: ...

    def confirm_records(self) -> None: ...

    def records_due(self) -> bool: ...

    def drain(self, deadline: Deadline, *, wait: Callable[[float], None]) -> bool: ...

    def stop(self) -> dict[int, Counters]: ...

    def check_processes(self) -> None: ...
