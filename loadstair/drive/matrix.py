"""The bursts of one matrix visit, each of a known number of requests, waited for until the last has ended."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from loadstair.clock import Deadline, now_ns
from loadstair.drive.session import LoadSession
from loadstair.drive.staircase import NO_COUNTERS, Hooks, Now, rescue, wait_a_tick, with_counters
from loadstair.errors import LoadstairError, TopologyError
from loadstair.plan.matrix import Burst
from loadstair.plan.model import Load
from loadstair.samples.clocks import offsets_of_rows
from loadstair.samples.look import LoadStatus
from loadstair.samples.runrecord import ClockReading, Counters, StepRecord, StepRole

LOOK_S: Final = 0.05
DYING_S: Final = 0.25
BEYOND_TIMEOUT_S: Final = 5.0
"""A request ends by itself or by its timeout; a little more than that is allowed."""


def run_tests(
    session: LoadSession, bursts: Sequence[Burst], load: Load, hooks: Hooks
) -> tuple[tuple[StepRecord, ...], bool]:
    """Runs the bursts in order; returns their records, with final counters, and whether all requests had ended.

    A burst in which a worker was lost is taken once more, by those that are left, as a step of its own: the requests
    that the worker was to send are missing in the first. On any exception the load is stopped first, what is under way
    recorded as killed, and all records handed over. If the topology died, its burst becomes a step all the same: that
    it did is what the test has shown.
    """
    visit = _Visit(session, load, hooks)
    try:
        for burst in bursts:
            record = visit.run(burst)
            if record.workers_lost and not burst.repeated:
                visit.run(burst.once_more())
            visit.pause(burst)
        counters = session.flush() if visit.drained else session.stop()
        hooks.on_rest(session.take_records(), counters)
        session.confirm_records()
    except TopologyError:
        visit.rescue_burst()
        raise
    except BaseException:
        rescue(session, hooks)
        raise
    return with_counters(visit.records, counters), visit.drained


class _Visit:
    def __init__(self, session: LoadSession, load: Load, hooks: Hooks) -> None:
        self._session = session
        self._load = load
        self._hooks = hooks
        self.records: list[StepRecord] = []
        self._begun: tuple[Burst, int] | None = None
        """The burst under way, and when it began."""

    @property
    def drained(self) -> bool:
        return all(record.tail_complete for record in self.records)

    def run(self, burst: Burst) -> StepRecord:
        self._begun = (burst, now_ns())
        start_ns = self._session.begin_step(
            step=burst.step, load=burst.users, users=burst.users, growth_s=burst.growth_s, burst=burst
        )
        self._begun = (burst, start_ns)
        status, counters = self._until_ended(burst)
        if counters.get(burst.step, NO_COUNTERS).failed:
            # A process that was killed closes its sockets before it is seen to have ended.
            self._wait(burst, burst.label, DYING_S, DYING_S)
        self._wait(burst, burst.label, None, 0.0)
        return self._hand_over(status, counters)

    def pause(self, burst: Burst) -> None:
        over = Deadline.after_s(burst.pause_s)
        while not over.passed():
            self._wait(burst, "cooldown", over.left_s(), over.left_s())

    def rescue_burst(self) -> None:
        """What the dead topology left of the burst under way. A failure here never hides the first cause."""
        if self._begun is None:
            rescue(self._session, self._hooks)
            return
        with suppress(LoadstairError):
            status = self._session.status()
            self._hand_over(status, self._session.stop(), complete=False)

    def _hand_over(
        self, status: LoadStatus, counters: Mapping[int, Counters], *, complete: bool | None = None
    ) -> StepRecord:
        assert self._begun is not None
        burst, start_ns = self._begun
        table = self._session.take_records()
        clocks = self._session.clocks()
        hold_start_ns, hold_end_ns = _span(table, burst.step, start_ns, clocks)
        record = StepRecord(
            step=burst.step,
            load=burst.users,
            start_ns=min(start_ns, hold_start_ns),
            hold_start_ns=hold_start_ns,
            hold_end_ns=hold_end_ns,
            tail_end_ns=hold_end_ns,
            tail_complete=status.in_flight == 0 if complete is None else complete,
            workers=status.workers,
            workers_lost=status.workers_lost,
            counters=counters.get(burst.step, NO_COUNTERS),
            role=StepRole.REPEATED if burst.repeated else StepRole.PLANNED,
            test=burst.label,
            clocks=clocks,
        )
        self.records.append(record)
        self._begun = None
        self._hooks.on_step(record, table, counters)
        self._session.confirm_records()
        return record

    def _until_ended(self, burst: Burst) -> tuple[LoadStatus, dict[int, Counters]]:
        """Until every request was sent and has ended; with the books of a flush that says so."""
        timeout_s = self._load.request_timeout_s * burst.requests_per_user + burst.growth_s + BEYOND_TIMEOUT_S
        deadline = Deadline.after_s(timeout_s)
        while True:
            status = self._session.status()
            counters = self._session.flush() if status.in_flight == 0 or deadline.passed() else {}
            started = counters.get(burst.step, NO_COUNTERS).started
            if started >= burst.requests or deadline.passed() or (counters and status.workers_lost):
                return status, counters
            self._wait(burst, burst.label, deadline.left_s(), LOOK_S)

    def _wait(self, burst: Burst, phase: str, left_s: float | None, at_most_s: float) -> None:
        wait_a_tick(
            self._session, self._hooks, Now(step=burst.step, load=burst.users, phase=phase, left_s=left_s), at_most_s
        )


def _span(table: pa.Table, step: int, start_ns: int, clocks: Sequence[ClockReading]) -> tuple[int, int]:
    """From the first dispatch to the last end of the step's requests; a workers' barrier is a little later than the
    first, and the look that sees the last end later still. Without a request it is empty."""
    rows = table.filter(pc.equal(table["step"], step))
    if rows.num_rows == 0:
        return start_ns, start_ns
    dispatch_ns, end_ns = rows["dispatch_ns"].to_numpy(), rows["end_ns"].to_numpy()
    offsets = offsets_of_rows(clocks, rows["worker"].to_numpy(), dispatch_ns)
    return int((dispatch_ns - offsets).min()), int((end_ns - offsets).max())
