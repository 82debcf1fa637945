"""The steps of one visit: warm-up, hold, tail, step after step without a drain between, then the drain.

Warm-up lasts at least its minimum and until the load has become stationary; the hold its minimum and, where the plan
wants a precision, until the throughput is known so well. Both are bounded. The hold is measured from the barrier: all
workers have switched when it begins, none has before it ends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from loadstair.clock import Clock, Deadline
from loadstair.drive.driven import DrivenLoad
from loadstair.drive.watch import Seen, nobody_looks
from loadstair.errors import LoadstairError
from loadstair.plan.model import Load, LoadMode
from loadstair.plan.staircase import growth_s, hold_s_longest, warmup_s_longest
from loadstair.samples.look import LoadStatus, Look
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import Counters, StepRecord, StepRole
from loadstair.units import NS_PER_S, ns_from_s, s_from_ns

TICK_S: Final = 0.25
NEAR_END_S: Final = 3.0
"""Of a hold: records are not asked for so shortly before it, to end it in time."""
NO_COUNTERS: Final = Counters(started=0, ok=0, failed=0, killed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOrder:
    """The step to take next."""

    step: int
    """Its number, unlike that of any other step of the visit."""
    load: float
    role: StepRole = StepRole.PLANNED
    at_once: bool = False
    hold_s: float | None = None
    """None: the plan's."""
    tail: bool = True
    """As in `loadstair.plan.staircase.PlannedStep`, and `at_once`."""


NextStep = Callable[[], StepOrder | None]
"""Asked when a step is on disk; None ends the climb."""


def in_order(loads: Sequence[float]) -> NextStep:
    """One step after the other, whatever they show."""
    orders = iter([StepOrder(step=step, load=load) for step, load in enumerate(loads)])
    return lambda: next(orders, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Where the climb stands."""

    step: int
    load: float
    phase: str
    """warmup, hold, tail or drain"""
    left_s: float | None
    """None where it is not known: warm-up that waits for its users."""
    seen: Seen | None = None
    """Of the load; None where nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the pipeline does meanwhile.

    `tick` is called at least every 0.25 s and raises to end the visit. `on_step` gets what was recorded up to the end
    of a step's tail, before the next step begins, less what `on_part` got of it every half minute of a long step;
    `on_rest` what was recorded after that, at the end of the visit or when it breaks off. All get the counters of all
    steps so far, and those match the tables: as many rows of step k were handed over until then as its counters have
    ok, failed and killed; the rest of started is under way. Requests of a tail end in the next step, so the counters of
    a step that was handed over earlier go on growing.
    """

    tick: Callable[[], None]
    on_step: Callable[[StepRecord, pa.Table, Mapping[int, Counters]], None]
    on_part: Callable[[pa.Table, Mapping[int, Counters]], None]
    on_rest: Callable[[pa.Table, Mapping[int, Counters]], None]
    on_progress: Callable[[Now], None]
    warmed_up: Callable[[Sequence[Look]], bool]
    """Whether a load looked at so often since it stopped growing has become stationary."""
    precise: Callable[[Sequence[Look]], bool]
    """Whether looks at a hold tell its throughput as precisely as the plan wants; asked only where it wants that."""
    look: Callable[[DrivenLoad], Seen | None] = nobody_looks
    """What `on_progress` is told of the load; by default nothing, and nobody is asked."""


def climb(session: DrivenLoad, next_step: NextStep, load: Load, hooks: Hooks) -> tuple[tuple[StepRecord, ...], bool]:
    """Takes the steps it is told; returns their records, with final counters, and whether all requests had ended.

    On any exception the load is stopped first, what is under way recorded as killed, and all records handed over.
    """
    records: list[StepRecord] = []
    try:
        while (order := next_step()) is not None:
            record, counters = _step(session, order, load, hooks)
            records.append(record)
            hooks.on_step(record, session.take_records(), counters)
            session.confirm_records()
        drained = not records or _drain(session, records[-1].step, records[-1].load, load, hooks)
        counters = session.flush() if drained else session.stop()
        hooks.on_rest(session.take_records(), counters)
        session.confirm_records()
    except BaseException:
        rescue(session, hooks)
        raise
    return with_counters(records, counters), drained


def with_counters(records: Sequence[StepRecord], counters: Mapping[int, Counters]) -> tuple[StepRecord, ...]:
    """The records, with the counters that are newer than their own."""
    return tuple(replace(record, counters=counters.get(record.step, record.counters)) for record in records)


def _step(session: DrivenLoad, order: StepOrder, load: Load, hooks: Hooks) -> tuple[StepRecord, dict[int, Counters]]:
    """Ends with a flush: its counters, of all steps so far, are the second value."""
    number, users = order.step, order.load
    grow_s = 0.0 if order.at_once else growth_s(load)
    start_ns = session.begin_step(step=number, load=users, users=round(users), growth_s=grow_s)
    stationary = None if order.at_once else _warm_up(session, number, users, load, hooks)
    hold_start_ns = session.set_phase(Phase.HOLD)
    held_ns = _hold(session, order, load, hooks)
    session.set_phase(Phase.TAIL)
    status = _tail(session, number, users, load, hooks) if order.tail else session.status()
    tail_end_ns = session.clock.now_ns()
    if order.tail and load.mode is LoadMode.OPEN:
        # What queued up under too high a rate would be the next step's burden, and hide what that one does.
        _drain(session, number, users, load, hooks)
    counters = session.flush()
    record = StepRecord(
        step=number,
        load=users,
        start_ns=start_ns,
        hold_start_ns=hold_start_ns,
        hold_end_ns=hold_start_ns + held_ns,
        tail_end_ns=tail_end_ns,
        tail_complete=not order.tail or status.in_flight_hold == 0,
        workers=status.workers,
        workers_lost=session.status().workers_lost,  # of one that ended in the tail, records of the hold may be missing
        counters=counters.get(number, NO_COUNTERS),
        role=order.role,
        stationary=stationary,
        clocks=session.clocks(),
    )
    return record, counters


def _warm_up(session: DrivenLoad, number: int, users: float, load: Load, hooks: Hooks) -> bool | None:
    """At least `warmup_s`, until every user has dispatched in this step (users of the step before may be busy with a
    long request; waiting for them ends with the request timeout), and until the load is stationary, at most
    `warmup_s_max`. Whether it became so; None where the plan leaves no time to look."""
    clock = session.clock
    longest_s = warmup_s_longest(load)
    growing = Deadline.after_s(growth_s(load), clock.monotonic_ns)
    minimum = Deadline.after_s(load.warmup_s, clock.monotonic_ns)
    maximum = Deadline.after_s(max(load.warmup_s, longest_s), clock.monotonic_ns)
    for_users = Deadline.after_s(load.warmup_s + load.request_timeout_s, clock.monotonic_ns)
    looks: list[Look] = []
    while True:
        status = session.status()
        if growing.passed():
            looks.append(_look(status, clock))
        all_dispatched = status.started_users >= status.users
        if minimum.passed() and (all_dispatched or for_users.passed()):
            if longest_s <= load.warmup_s:
                return None
            if hooks.warmed_up(looks):
                return True
            if maximum.passed():
                return False
        left_s = None if minimum.passed() else minimum.left_s()
        at_most_s = TICK_S if left_s is None else left_s
        _wait(session, hooks, Now(step=number, load=users, phase="warmup", left_s=left_s), at_most_s)


def _hold(session: DrivenLoad, order: StepOrder, load: Load, hooks: Hooks) -> int:
    """How long it was, in ns. The monotonic clock counts: a step of the wall clock must not shorten it."""
    clock = session.clock
    hold_s = load.hold_s if order.hold_s is None else order.hold_s
    begun_ns = clock.monotonic_ns()
    minimum = Deadline.after_s(hold_s, clock.monotonic_ns)

    def wait(until: Deadline) -> None:
        left_s = until.left_s()
        _wait(session, hooks, Now(step=order.step, load=order.load, phase="hold", left_s=left_s), left_s)

    if load.precision is None:
        while not minimum.passed():
            wait(minimum)
        return ns_from_s(hold_s)
    maximum = Deadline.after_s(max(load.hold_s, hold_s_longest(load)), clock.monotonic_ns)
    looks: list[Look] = []
    while not maximum.passed():
        looks.append(_look(session.status(), clock))
        if minimum.passed() and hooks.precise(looks):
            break
        wait(maximum if minimum.passed() else minimum)
    return clock.monotonic_ns() - begun_ns


def _look(status: LoadStatus, clock: Clock) -> Look:
    return Look(
        time_s=s_from_ns(clock.monotonic_ns()),
        in_flight=status.in_flight,
        tokens=status.tokens,
        first_tokens=status.first_tokens,
        ttft_s_sum=status.ttft_ns_sum / NS_PER_S,
    )


def _tail(session: DrivenLoad, number: int, users: float, load: Load, hooks: Hooks) -> LoadStatus:
    deadline = Deadline.after_s(load.tail_s_max, session.clock.monotonic_ns)
    while True:
        status = session.status()
        if status.in_flight_hold == 0 or deadline.passed():
            return status
        _wait(session, hooks, Now(step=number, load=users, phase="tail", left_s=deadline.left_s()), TICK_S)


def _drain(session: DrivenLoad, number: int, users: float, load: Load, hooks: Hooks) -> bool:
    """A request ends by itself or by its timeout; a little more than that is allowed."""
    deadline = Deadline.after_s(load.request_timeout_s + 5.0, session.clock.monotonic_ns)

    def wait(seconds: float) -> None:
        now = Now(step=number, load=users, phase="drain", left_s=deadline.left_s())
        _wait(session, hooks, now, seconds)

    return session.drain(deadline, wait=wait)


def _wait(session: DrivenLoad, hooks: Hooks, now: Now, at_most_s: float) -> None:
    """A tick, and what was recorded meanwhile if that has become much: memory must not grow with a step's length."""
    wait_a_tick(session, hooks, now, at_most_s)
    if session.records_due() and (now.left_s is None or now.left_s > NEAR_END_S):
        counters = session.flush()
        hooks.on_part(session.take_records(), counters)
        session.confirm_records()


def wait_a_tick(session: DrivenLoad, hooks: Hooks, now: Now, at_most_s: float) -> None:
    session.check_processes()
    hooks.tick()
    hooks.on_progress(replace(now, seen=hooks.look(session)))
    session.clock.sleep_s(min(at_most_s, TICK_S))


def rescue(session: DrivenLoad, hooks: Hooks) -> None:
    """Gets what was measured out of a visit that broke off. A failure here never hides the first cause."""
    try:
        counters = session.stop()
        hooks.on_rest(session.take_records(), counters)
        session.confirm_records()
    except LoadstairError:
        return
