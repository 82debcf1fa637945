"""The measuring half of a run: every visit of the staircase, into a run folder."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from loadstair import clock
from loadstair.analysis.step.stationary import warmed_up
from loadstair.drive.crew import worker_count
from loadstair.drive.matrix import run_tests
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.spools import spools_in
from loadstair.drive.staircase import Hooks, Now, StepOrder, climb, with_counters
from loadstair.drive.watch import Watch, in_words, nobody_looks
from loadstair.errors import LoadstairError, StorageError, TopologyError, UsageError
from loadstair.journal import Journal, usable_cores
from loadstair.losses import FailedTopologies, too_many_lost
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import LoadShape, Plan, RemoteWorkers, SimulatedTopology, TopologyPlan, load_unit
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import Visit, expected_step_s, planned_steps
from loadstair.progress import Progress
from loadstair.recovery import recover
from loadstair.resumption import (
    REPLACEMENTS_MAX,
    Remaining,
    bursts_left,
    continued,
    expected_rest_s,
    extras_of,
    refuse_another_topology,
    remaining,
)
from loadstair.samples.look import Look
from loadstair.samples.readings import telemetry_from_tables
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Counters, Ending, ServerCounters, StepRecord, StepRole, VisitRecord
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.steering import Steering
from loadstair.telemetry.counters import server_counters, settled_counters
from loadstair.telemetry.sampler import Gap, Sampler
from loadstair.telemetry.sources import sources_for
from loadstair.telemetry.workers_elsewhere import AskWorkers
from loadstair.topology.bring_up import bring_up
from loadstair.topology.external import waiting_s
from loadstair.topology.running import RunningTopology


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


def measure(run: Measuring) -> None:
    """Visits every topology as often as the plan says; each step is on disk before the next begins.

    Raises TopologyError, LoadError, StorageError or Interrupted; what was measured until then is in the folder. With
    `on_server_lost: next` a TopologyError comes at the end, and tells of every topology that failed.
    """
    record = run.journal.record
    failed = FailedTopologies()
    run.extras.update({topology.name: extras_of(record, topology.name) for topology in run.plan.topologies})
    with ExitStack() as kept:
        standing: dict[str, RunningTopology] = {}
        measured = False
        for one in remaining(run.plan, record):
            if one.earlier and _nothing_left(run, one):
                continue
            if failed.is_given_up(one.visit.topology):
                _leave_out(run, one, f"{one.visit.topology.name}: not visited again")
                continue
            if measured:
                _cool_down(run)
            _visit(run, one, kept, standing, failed)
            measured = True
    error = failed.error()
    if error is not None:
        raise error


def _visit(
    run: Measuring, one: Remaining, kept: ExitStack, standing: dict[str, RunningTopology], failed: FailedTopologies
) -> None:
    """Raises TopologyError, unless the plan has the run go on with the next visit: it is then noted in `failed`."""
    plan = one.visit.topology
    came_up = False
    try:
        with _topology(run, one.visit, kept, standing) as topology:
            came_up = True
            _measure_to_the_end(run, one, topology)
            topology.check_at_end()
    except TopologyError as error:
        if came_up:
            run.journal.broke_off(plan.name, one.visit.repeat, Ending.TOPOLOGY_FAILED, str(error))
        if run.plan.load.on_server_lost == "stop":
            raise
        failed.add(plan, error, came_up=came_up)
        run.extras[plan.name] = extras_of(run.journal.record, plan.name)
        left = continued(run.plan, run.journal.record, one)
        _leave_out(run, left, f"{error}; the run goes on")


def _measure_to_the_end(run: Measuring, one: Remaining, topology: RunningTopology) -> None:
    """One visit; where the plan has lost workers replaced, as many after each other as that takes."""
    name = one.visit.topology.name
    lost: list[str] = []
    while gone := _measure_visit(run, one, topology):
        lost.append(" and ".join(gone))
        if len(lost) > REPLACEMENTS_MAX:
            raise too_many_lost(name, lost)
        run.progress.say(
            f"{name}: {lost[-1]} lost: all workers begin anew (replacement {len(lost)} of at most {REPLACEMENTS_MAX})"
        )
        one = continued(run.plan, run.journal.record, one)
        _cool_down(run)


def _cool_down(run: Measuring) -> None:
    run.progress.phase("cooling down")
    clock.sleep_s(run.plan.load.cooldown_s)


def _leave_out(run: Measuring, one: Remaining, why: str) -> None:
    run.progress.skip(why, expected_rest_s(run.plan, one, partial(expected_e2e_s, run.plan)))


def _nothing_left(run: Measuring, one: Remaining) -> bool:
    """The run broke off between a visit's last step and its end."""
    if run.plan.matrix is not None:
        return not bursts_left(run.plan.matrix, one)
    return _steering(run, one, TELEMETRY_SCHEMA.empty_table).next_step() is None


def _steering(run: Measuring, one: Remaining, telemetry: Callable[[], pa.Table]) -> Steering:
    """That knows what earlier visits of this repeat have shown."""
    steering = Steering(run.plan, one.visit, telemetry, run.extras.get(one.visit.topology.name, ()))
    if run.plan.matrix is None:
        for earlier in one.earlier:
            samples, _ = run.folder.read_samples(earlier.visit)  # of a damaged file the analysis tells
            steering.taken_before(earlier, samples, telemetry_from_tables(run.telemetry))
    return steering


@contextmanager
def _topology(
    run: Measuring, visit: Visit, kept: ExitStack, standing: dict[str, RunningTopology]
) -> Iterator[RunningTopology]:
    """The visit's topology: started anew, or the one that stands since an earlier visit (`restart: never`)."""
    plan = visit.topology
    if plan.restart == "never":
        if plan.name not in standing:
            standing[plan.name] = kept.enter_context(_brought_up(run, visit, plan))
        yield standing[plan.name]
    else:
        with _brought_up(run, visit, plan) as topology:
            yield topology


@contextmanager
def _brought_up(run: Measuring, visit: Visit, plan: TopologyPlan) -> Iterator[RunningTopology]:
    run.progress.phase(f"{plan.name}: starting")
    wait_s = waiting_s(plan)
    if wait_s is not None:
        run.progress.say(f"{plan.name}: has {wait_s:g} s from now to answer")
    with bring_up(
        plan, plan=run.plan, plan_dir=run.plan_dir, log_dir=run.folder.log_path, visit=visit.visit
    ) as topology:
        seen = topology.endpoint.fingerprint
        record = run.journal.record
        if record.resumed and plan.name in record.topologies:
            refuse_another_topology(run.folder.path, plan.name, record.topologies[plan.name], seen)
        run.journal.fingerprint(plan.name, seen)
        yield topology


def _measure_visit(run: Measuring, one: Remaining, topology: RunningTopology) -> tuple[str, ...]:
    """With one set of workers; those that were lost and are to be replaced. Ends with the records that a lost worker,
    or a lost master's workers, left in their spools."""
    try:
        lost = _under_load(run, one, topology)
    except BaseException:
        with suppress(LoadstairError):  # what ended the visit is the cause to tell
            recover_records(run.folder, run.journal, run.progress)
        raise
    recover_records(run.folder, run.journal, run.progress)
    return lost


def recover_records(folder: RunFolder, journal: Journal, progress: Progress) -> None:
    """Those that workers of this machine left. Raises StorageError."""
    records = 0
    for path in spools_in(folder.log_path):
        try:
            records += recover(folder, journal, [path])
        except UsageError as error:
            journal.warn([str(error)])
            path.rename(path.with_suffix(".unreadable"))
    if records:
        progress.say(f"{records} records that workers could not hand over were recovered")


def _under_load(run: Measuring, one: Remaining, topology: RunningTopology) -> tuple[str, ...]:
    visit = one.visit
    run.progress.phase(f"{visit.topology.name}: starting the load generator")
    with (
        LoadSession(
            _visit_load(run, visit, topology),
            workers=_workers(run.plan, topology),
            log_dir=run.log_dir,
            tell=run.progress.say,
        ) as load,
        Sampler(
            sources_for(topology.endpoint, visit.topology.name, load.pids, _ask_workers(run.plan, load))
        ) as sampler,
    ):
        log = VisitLog(
            run,
            one,
            sampler,
            server_before=server_counters(topology.endpoint),
            workers_wanted=load.workers_wanted,
        )
        hooks = Hooks(
            tick=topology.check,
            on_step=log.step,
            on_part=log.part,
            on_rest=log.rest,
            on_progress=log.progress,
            warmed_up=warmed_up,
            precise=log.precise,
            look=Watch().look if run.progress.is_live else nobody_looks,
        )
        try:
            if run.plan.matrix is not None:
                steps, drained = run_tests(load, bursts_left(run.plan.matrix, one), run.plan.load, hooks)
            else:
                steps, drained = climb(load, log.next_step, run.plan.load, hooks)
            log.finished(steps, drained, server_after=settled_counters(topology.endpoint))
        except BaseException:
            with suppress(StorageError):  # what ended the visit is the cause to tell
                log.keep_telemetry()
            raise
        log.keep_telemetry()
    return log.lost


def _visit_load(run: Measuring, visit: Visit, topology: RunningTopology) -> VisitLoad:
    plan = run.plan
    return VisitLoad(
        visit=visit.visit,
        topology=visit.topology.name,
        repeat=visit.repeat,
        seed=plan.seed,
        workload=plan.workload,
        load=plan.load,
        endpoint=topology.endpoint,
        arrivals=run.arrivals,
        calibrate_words=not isinstance(visit.topology, SimulatedTopology),  # there one word is one token
    )


def _workers(plan: Plan, topology: RunningTopology) -> int | RemoteWorkers:
    if isinstance(plan.workers, RemoteWorkers):
        return plan.workers
    local_engines = sum(replica.pid is not None for replica in topology.endpoint.replicas)
    return worker_count(plan.workers, cores=usable_cores(), local_engines=local_engines)


def _ask_workers(plan: Plan, load: LoadSession) -> AskWorkers | None:
    """Workers of this machine are watched from outside."""
    return load.processes if isinstance(plan.workers, RemoteWorkers) else None


class VisitLog:
    """Writes what one visit yields, as it comes: samples, telemetry, the run record, a line of progress."""

    def __init__(
        self,
        run: Measuring,
        one: Remaining,
        sampler: Sampler,
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
        self._steering = _steering(run, one, self._telemetry_so_far)

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

    def precise(self, looks: Sequence[Look]) -> bool:
        return self._steering.precise(looks)

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
