"""The measuring half of a run: every visit of the staircase, into a run folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from loadstair import clock
from loadstair.drive.crew import worker_count
from loadstair.drive.matrix import run_tests
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.spools import spools_in
from loadstair.drive.staircase import climb
from loadstair.drive.watch import Watch, nobody_looks
from loadstair.errors import LoadstairError, StorageError, TopologyError, UsageError
from loadstair.journal import Journal, usable_cores
from loadstair.losses import FailedTopologies, too_many_lost
from loadstair.plan.model import Plan, RemoteWorkers, SimulatedTopology, TopologyPlan
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import Visit
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
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Ending
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.telemetry.counters import server_counters, settled_counters
from loadstair.telemetry.sampler import Sampler
from loadstair.telemetry.sources import sources_for
from loadstair.telemetry.workers_elsewhere import AskWorkers
from loadstair.topology.bring_up import bring_up
from loadstair.topology.external import waiting_s
from loadstair.topology.running import RunningTopology
from loadstair.visitlog import Measuring, VisitLog, steering_of


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
    return steering_of(run, one, TELEMETRY_SCHEMA.empty_table).next_step() is None


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
        hooks = log.hooks(topology.check, Watch().look if run.progress.is_live else nobody_looks)
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
