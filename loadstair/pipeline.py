"""The main job as prose: measure every visit, think about the files, write the report."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from loadstair.analysis.results import results_json
from loadstair.analysis.summary import SUMMARY_SCHEMA, Summary, summarize, summary_json
from loadstair.analysis.thresholds import ThresholdStatus
from loadstair.calibrate.machine import machine
from loadstair.calibrate.store import Store, kept_for
from loadstair.clock import utc_now
from loadstair.errors import Interrupted, LoadError, LoadstairError, StorageError, TopologyError, UsageError
from loadstair.fitting.figures import measured_steps
from loadstair.fitting.fit import Fit, fit
from loadstair.fitting.kept import KeptFit
from loadstair.forecasting import Forecast, forecast_of, foresee, predicted_steps
from loadstair.journal import Journal, new_record, usable_cores
from loadstair.measurement import measure, recover_records
from loadstair.plan.model import Plan, SimulatedTopology
from loadstair.plan.parse import plan_yaml, read_measured_plan
from loadstair.plan.pools import SERVED_BY_NONE, is_pooled
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import expected_duration_s
from loadstair.plan.trace import arrivals_of
from loadstair.progress import Progress
from loadstair.recovery import recover
from loadstair.report.junit import junit_xml
from loadstair.report.render import render_report
from loadstair.resumption import (
    changed_lines,
    expected_left_s,
    plan_folder,
    refuse_another_plan,
    refuse_complete,
    resumed_record,
)
from loadstair.samples.clocks import on_masters_clock
from loadstair.samples.readings import telemetry_from_tables
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Ending
from loadstair.visitlog import Measuring

EXIT_OK = 0
EXIT_INVALID = 4
EXIT_THRESHOLD = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that ended, one way or the other."""

    folder: RunFolder
    summary: Summary | None
    """None where no step was measured."""
    error: LoadstairError | None
    """What ended the measurement early; None if it is complete."""
    exit_code: int


def run(plan: Plan, *, plan_dir: Path, out: Path, command: Sequence[str], quick: bool, progress: Progress) -> Finished:
    """Measure, analyse, report. Only an unwritable folder, or a trace that cannot be read, is raised; what fails
    later is in the answer, with the partial results."""
    _refuse_what_is_only_forecast(plan)
    arrivals = arrivals_of(plan.load, plan_dir)  # first: a trace that cannot be used leaves nothing behind
    _leave_cores_to_the_load()
    folder = RunFolder.create(out, plan.name, utc_now())
    with folder.reserved():
        folder.write_text(folder.plan_path, plan_yaml(plan))
        kept = kept_for(machine(cores=usable_cores()), Store.of_user())
        record = new_record(plan, plan_dir=plan_dir, command=command, quick=quick, calibration=kept.calibration)
        journal = Journal(folder, record)
        if kept.warning is not None:
            journal.warn([kept.warning])
        progress.begin(expected_duration_s(plan, partial(expected_e2e_s, plan)))
        return _finish(
            Measuring(
                plan=plan, plan_dir=plan_dir, arrivals=arrivals, folder=folder, journal=journal, progress=progress
            )
        )


def _refuse_what_is_only_forecast(plan: Plan) -> None:
    for topology in plan.topologies:
        if isinstance(topology, SimulatedTopology) and is_pooled(topology.engines):
            raise UsageError(f"topology {topology.name}: {SERVED_BY_NONE}")


def resume(path: Path, plan_path: Path | None, plan: Plan | None, *, progress: Progress) -> Finished:
    """Goes on after the last finished step of the run in this folder; `plan` as read from `plan_path`, None for the
    folder's own. Raises UsageError or PlanError, and has changed nothing, where it may not."""
    _leave_cores_to_the_load()
    folder = RunFolder.open(path)
    with folder.reserved():
        record, measured = folder.read_run(), read_measured_plan(folder.plan_path)
        refuse_complete(path, record)
        if plan is None or plan_path is None:
            plan, plan_dir = measured, plan_folder(path, measured, record)
        else:
            plan_dir = plan_path.resolve().parent
            refuse_another_plan(path, measured, plan, plan_path)
        arrivals = arrivals_of(plan.load, plan_dir)
        telemetry = [folder.read_telemetry()]
        folder.remove_partial_files()
        now = new_record(plan, plan_dir=plan_dir, command=(), quick=record.quick, calibration=None)
        journal = Journal(folder, resumed_record(record, now=now.started))
        journal.warn(changed_lines(record, now))
        recover_records(folder, journal, progress)
        progress.begin(expected_left_s(plan, journal.record, partial(expected_e2e_s, plan)))
        return _finish(
            Measuring(
                plan=plan,
                plan_dir=plan_dir,
                arrivals=arrivals,
                folder=folder,
                journal=journal,
                progress=progress,
                telemetry=telemetry,
            )
        )


def forecast(
    plan: Plan,
    *,
    plan_dir: Path,
    out: Path,
    command: Sequence[str],
    quick: bool,
    progress: Progress,
    kept: KeptFit | None = None,
) -> Finished:
    """As `run`, in simulated time: the run folder says everywhere that it was predicted. `kept`: constants in place of
    those that are shipped. Raises UsageError for a plan of which no topology can be foretold."""
    arrivals = arrivals_of(plan.load, plan_dir)
    told = forecast_of(plan, kept)
    _leave_cores_to_the_load()
    folder = RunFolder.create(out, plan.name, utc_now())
    with folder.reserved():
        folder.write_text(folder.plan_path, plan_yaml(told.plan))
        record = new_record(told.plan, plan_dir=plan_dir, command=command, quick=quick, calibration=None)
        journal = Journal(folder, replace(record, predicted=True, notes=told.notes))
        measuring = Measuring(
            plan=told.plan, plan_dir=plan_dir, arrivals=arrivals, folder=folder, journal=journal, progress=progress
        )
        return _finish(measuring, told)


def _finish(measuring: Measuring, told: Forecast | None = None) -> Finished:
    """`told`: of a forecast; None measures."""
    folder, summary = measuring.folder, None
    error = _measure_to_an_end(measuring, told)
    if told is None and not isinstance(error, Interrupted):
        _carry_forecast(measuring)
    if any(visit.steps for visit in measuring.journal.record.visits):
        measuring.progress.phase("analysing")
        try:
            summary = analyze(folder)
            report(folder)
        except LoadstairError as failure:
            error = error or failure  # the first cause is the one to tell
    return Finished(folder=folder, summary=summary, error=error, exit_code=exit_code(summary, error))


def _leave_cores_to_the_load() -> None:
    """Linear algebra here is small, and the threads that BLAS gives it wait for each other by spinning: a third more
    CPU time, on cores that a worker may need."""
    threadpool_limits(limits=1, user_api="blas")


def _carry_forecast(measuring: Measuring) -> None:
    """What was predicted for the loads that were measured, into the run record."""
    measuring.progress.phase("predicting")
    try:
        measuring.journal.foretold(predicted_steps(measuring.plan, measuring.arrivals, measuring.journal.record))
    except Exception as error:  # noqa: BLE001  what was measured must not be lost to a defect in what is foretold
        with suppress(StorageError):
            measuring.journal.warn([f"there is no forecast beside the measurement: {type(error).__name__}: {error}"])


def _measure_to_an_end(measuring: Measuring, told: Forecast | None) -> LoadstairError | None:
    """Measures until the end or the first error, which is noted in the run record and given back."""
    try:
        if told is None:
            measure(measuring)
        else:
            foresee(measuring, told)
        return _note_end(measuring.journal, Ending.COMPLETE, None)
    except Interrupted as error:
        return _note_end(measuring.journal, Ending.INTERRUPTED, error)
    except (TopologyError, UsageError) as error:  # a usage error: another topology than the run began with
        return _note_end(measuring.journal, Ending.TOPOLOGY_FAILED, error)
    except LoadError as error:
        return _note_end(measuring.journal, Ending.LOAD_FAILED, error)
    except StorageError as error:
        return _note_end(measuring.journal, Ending.STORAGE_FAILED, error)


def _note_end(journal: Journal, ending: Ending, error: LoadstairError | None) -> LoadstairError | None:
    """Gives back what to tell: the first cause. Where the end cannot even be noted, the disk is full, and that is why a
    process of ours died, if one did: an engine cannot write its ledger then, nor say so in its log."""
    try:
        journal.end(ending, None if error is None else str(error))
    except StorageError as storage:
        return storage if error is None or isinstance(error, TopologyError | LoadError) else error
    return error


def analyze(folder: RunFolder) -> Summary:
    """summary.json and results.json from the files alone. Raises UsageError for a folder that is no run."""
    _leave_cores_to_the_load()
    record, plan = folder.read_run(), read_measured_plan(folder.plan_path)
    samples, damaged = folder.read_samples()
    samples = on_masters_clock(samples, record.visits)
    record = replace(record, warnings=(*record.warnings, *damaged))
    telemetry = telemetry_from_tables([folder.read_telemetry()])
    summary = summarize(record, plan, samples, telemetry, np.random.default_rng(record.seed))
    folder.write_json(folder.summary_path, summary_json(summary))
    folder.write_json(folder.results_path, results_json(summary))
    return summary


def report(folder: RunFolder) -> None:
    """report.html and junit.xml from the files alone. Raises UsageError where they are damaged."""
    folder.read_run()  # its shape is checked there
    read_measured_plan(folder.plan_path)
    summary, record = _summary_of(folder), folder.read_json(folder.run_path)
    try:
        html = render_report(summary, folder.plan_path.read_text(encoding="utf-8"), record)
        junit = junit_xml(summary)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder.summary_path}: damaged ({error!r}); `analyze` makes it again") from error
    folder.write_text(folder.report_path, html)
    folder.write_text(folder.junit_path, junit)


def _summary_of(folder: RunFolder) -> dict[str, Any]:
    summary = folder.read_json(folder.summary_path)
    if not isinstance(summary, dict) or summary.get("schema") != SUMMARY_SCHEMA:
        raise UsageError(f"{folder.summary_path}: not a summary of schema {SUMMARY_SCHEMA}; `analyze` makes it again")
    return summary


def fit_to(folder: RunFolder) -> Fit:
    """The step model's constants, fitted to a run's summary. Raises UsageError for a folder that is no measured run or
    that the model does not know, NothingToFit where too little in it is valid."""
    _leave_cores_to_the_load()
    record = folder.read_run()
    if record.predicted:
        raise UsageError(f"{folder.path}: a forecast, in which nothing was measured: fit a measured run")
    plan, summary = read_measured_plan(folder.plan_path), _summary_of(folder)
    plan_dir = folder.path if record.plan_dir is None else Path(record.plan_dir)
    try:
        measured = measured_steps(summary)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder.summary_path}: damaged ({error!r}); `analyze` makes it again") from error
    return fit(plan, arrivals_of(plan.load, plan_dir), measured)


def recover_spools(path: Path, spools: Sequence[Path]) -> int:
    """Adds what workers of other hosts could not hand over to the run in this folder, and analyses it anew; returns how
    many records it had not. Raises UsageError, and has changed nothing, where one is no spool of this run."""
    folder = RunFolder.open(path)
    with folder.reserved():
        added = recover(folder, Journal(folder, folder.read_run()), spools)
        if added:
            analyze(folder)
            report(folder)
    return added


def exit_code(summary: Summary | None, error: LoadstairError | None) -> int:
    """An error that ended the run comes before any verdict: 2, 130, 3, then 4, then 99."""
    if error is not None:
        return error.exit_code
    if summary is None or summary.topologies_without_valid_step:
        return EXIT_INVALID
    statuses = {threshold.status for threshold in summary.thresholds}
    if ThresholdStatus.INVALID in statuses:
        return EXIT_INVALID
    return EXIT_THRESHOLD if ThresholdStatus.FAILED in statuses else EXIT_OK
