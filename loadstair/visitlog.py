"""What one visit yields, written as it comes; the same for Locust's processes and for a load in simulated time."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from loadstair.analysis.step.stationary import warmed_up
from loadstair.drive.driven import DrivenLoad
from loadstair.drive.staircase import Hooks, Now, StepOrder, with_counters
from loadstair.drive.watch import Seen, in_words, nobody_looks
from loadstair.journal import Journal
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import LoadShape, Plan, load_unit
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import expected_step_s, planned_steps
from loadstair.progress import Progress
from loadstair.resumption import Remaining
from loadstair.samples.readings import telemetry_from_tables
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Counters, Ending, ServerCounters, StepRecord, StepRole, VisitRecord
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.steering import Steering
from loadstair.telemetry.sampler import Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What every part of a measurement needs."""

    plan: Plan
    plan_dir: Path
    arrivals: Arrivals | None
    """Of an open loop; None in a closed one."""
    folder: RunFolder
    journal: Journal
    progress: Progress
    extras: dict[str, Sequence[StepOrder]] = field(default_factory=dict)
    """By topology, the steps that its first visit added to the plan's."""
    telemetry: list[pa.Table] = field(default_factory=list)
    """All that was sampled so far, in pieces."""

    @property
    def log_dir(self) -> Path:
        return self.folder.log_path


def steering_of(run: Measuring, one: Remaining, telemetry: Callable[[], pa.Table]) -> Steering:
    """That knows what earlier visits of this repeat have shown."""
    steering = Steering(run.plan, one.visit, telemetry, run.extras.get(one.visit.topology.name, ()))
    if run.plan.matrix is None:
        for earlier in one.earlier:
            samples, _ = run.folder.read_samples(earlier.visit)  # of a damaged file the analysis tells
            steering.taken_before(earlier, samples, telemetry_from_tables(run.telemetry))
    return steering


class Sampled(Protocol):
    """What was read beside the load: a `telemetry.sampler.Sampler`, or a forecast's gauges."""

    def take_rows(self) -> Sequence[tuple[int, str, str, str, float]]:
        """As TELEMETRY_SCHEMA has them; those since the last call."""

    def gaps(self) -> Sequence[Gap]:
        """Sources that missed a reading so far."""


class VisitLog:
    """Writes what one visit yields, as it comes: samples, telemetry, the run record, a line of progress."""

    def __init__(
        self,
        run: Measuring,
        one: Remaining,
        sampler: Sampled,
        *,
        server_before: ServerCounters | None,
        workers_wanted: int,
    ) -> None:
        self._run = run
        self._visit = one.visit
        self._steps_before = one.steps_done
        self._sampler = sampler
        self._server_before = server_before
        self._workers_wanted = workers_wanted
        self._unit = load_unit(run.plan.load.mode)
        self._steps: list[StepRecord] = []
        self._parts = 0
        self._steered = run.plan.load.shape is LoadShape.STAIRCASE and run.plan.matrix is None
        self._pieces: list[pa.Table] = []
        """What was recorded since the last step, where the steering wants it."""
        self._requests: Counter[tuple[int, str, str]] = Counter()
        """Recorded so far, by step, phase and outcome."""
        self._told_stop = False
        self._sampled_before = len(run.telemetry)
        self._steering = steering_of(run, one, self._telemetry_so_far)

    def hooks(self, tick: Callable[[], None], look: Callable[[DrivenLoad], Seen | None] = nobody_looks) -> Hooks:
        """For what drives the load; `tick` and `look` as they say."""
        return Hooks(
            tick=tick,
            on_step=self.step,
            on_part=self.part,
            on_rest=self.rest,
            on_progress=self.progress,
            warmed_up=warmed_up,
            precise=self._steering.precise,
            look=look,
        )

    def step(self, record: StepRecord, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        self._write_telemetry()
        # One right after the other: killed in between, a run has rows that no counter counted yet.
        self._write_samples(table)
        self._steps = [*with_counters(self._steps, counters), record]
        self._write_visit(drained=False, server_after=None)
        expected_s = self._expected_s(record.step) if record.role is StepRole.PLANNED else 0.0
        self._run.progress.step_done(self._line(record), expected_s)
        if self._steered:
            self._steering.step_done(record, pa.concat_tables([*self._pieces, table]))
        self._pieces = []

    def part(self, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        """What a step that goes on has yielded so far."""
        self.rest(table, counters)
        if self._steered:
            self._pieces.append(table)

    @property
    def lost(self) -> tuple[str, ...]:
        """Workers of the last step, where the plan has them replaced: the visit then ends, and another goes on."""
        replaces = self._run.plan.load.on_worker_lost == "replace"
        return self._steps[-1].workers_lost if replaces and self._steps else ()

    def next_step(self) -> StepOrder | None:
        if self.lost:
            return None
        order = self._steering.next_step()
        if order is not None and order.role is StepRole.REPEATED:
            self._run.progress.say(f"{self._visit.topology.name}: {order.load:g} {self._unit}: invalid, once more")
        if self._steering.stopped is not None and not self._told_stop:
            self._told_stop = True
            left = set(range(len(planned_steps(self._run.plan.load)))) - self._steps_taken()
            self._run.progress.skip(
                f"{self._visit.topology.name}: {self._steering.stopped}; the steps above are left out",
                sum(map(self._expected_s, left)),
            )
        return order

    def _steps_taken(self) -> frozenset[int]:
        return self._steps_before | {record.step for record in self._steps}

    def _expected_s(self, step: int) -> float:
        plan = self._run.plan
        return expected_step_s(plan, self._visit.topology, step, partial(expected_e2e_s, plan))

    def rest(self, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        """What came after the last step, or before an early end, with every step's final counters."""
        self._write_samples(table)
        self._steps = list(with_counters(self._steps, counters))
        self._write_visit(drained=False, server_after=None)

    def finished(self, steps: tuple[StepRecord, ...], drained: bool, server_after: ServerCounters | None) -> None:
        self._steps = list(steps)
        self._run.extras[self._visit.topology.name] = self._steering.extras
        self._write_visit(drained=drained, server_after=server_after, finished=not self.lost)

    def progress(self, now: Now) -> None:
        left = "" if now.left_s is None else f" {now.left_s:.0f} s"
        seen = "" if now.seen is None else in_words(now.seen)
        self._run.progress.phase(f"{self._visit.topology.name}: {now.load:g} {self._unit}, {now.phase}{left}{seen}")

    def keep_telemetry(self) -> None:
        self._write_telemetry()
        self._run.journal.warn([_gap_line(gap) for gap in self._sampler.gaps()])

    def _write_samples(self, table: pa.Table) -> None:
        keys = [table[name].to_pylist() for name in ("step", "phase", "outcome")]
        self._requests.update(zip(*keys, strict=True))
        if table.num_rows:
            part, self._parts = self._parts, self._parts + 1  # counted first: an interrupted write is never overwritten
            self._run.folder.write_samples(self._visit.visit, part, table)

    def _telemetry_so_far(self) -> pa.Table:
        return pa.concat_tables(self._run.telemetry[self._sampled_before :] or [TELEMETRY_SCHEMA.empty_table()])

    def _write_telemetry(self) -> None:
        columns = list(zip(*self._sampler.take_rows(), strict=True)) or [()] * len(TELEMETRY_SCHEMA)
        self._run.telemetry.append(pa.table([list(column) for column in columns], schema=TELEMETRY_SCHEMA))
        self._run.folder.write_telemetry(pa.concat_tables(self._run.telemetry))

    def _write_visit(self, *, drained: bool, server_after: ServerCounters | None, finished: bool = False) -> None:
        self._run.journal.visit(
            VisitRecord(
                visit=self._visit.visit,
                topology=self._visit.topology.name,
                repeat=self._visit.repeat,
                steps=tuple(self._steps),
                server_before=self._server_before,
                server_after=server_after,
                drained=drained,
                stopped=self._steering.stopped,
                finished=finished,
                workers_wanted=self._workers_wanted,
                broke_off=Ending.LOAD_FAILED if self.lost else None,
                broke_off_message=f"{' and '.join(self.lost)} lost" if self.lost else None,
            )
        )

    def _line(self, record: StepRecord) -> str:
        steps, repeats = planned_steps(self._run.plan.load), self._run.plan.load.repeats
        outcomes: Counter[str] = Counter()
        for (step, phase, outcome), count in self._requests.items():
            if step == record.step and (phase == Phase.HOLD or record.test is not None):
                outcomes[outcome] += count
        ok = outcomes[Outcome.OK]
        failed = f", {outcomes.total() - ok} not ok" if outcomes.total() > ok else ""
        which = f"step {record.step + 1}/{len(steps)}" if record.role is StepRole.PLANNED else str(record.role)
        if record.test is not None:
            which = record.test if record.role is StepRole.PLANNED else f"{record.test}, {record.role}"
        repeat = f", repeat {self._visit.repeat + 1}/{repeats}" if repeats > 1 else ""
        return f"{self._visit.topology.name}: {record.load:g} {self._unit}: {ok} requests ok{failed} ({which}{repeat})"


def _gap_line(gap: Gap) -> str:
    return f"telemetry of {gap.source} ({gap.kind}) is missing {gap.missed} of {gap.ticks} readings: {gap.last_error}"
