"""The command line: the only module that prints, and that decides the exit code."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from loadstair import __version__
from loadstair.errors import LoadstairError, UsageError
from loadstair.interrupt import interruptible
from loadstair.plain import without_controls
from loadstair.size_options import add_options as add_size_options

if TYPE_CHECKING:
    from loadstair.analysis.summary import Summary
    from loadstair.pipeline import Finished
    from loadstair.plan.model import Plan

PIPE_COLUMNS = 200
USERS_MAX = 4096
PROCESSES_MAX = 1024
MISSED = 99

EXIT_CODES = """exit codes:
  0    measured, and all thresholds met
  2    the plan or the command line is wrong, or the output folder cannot be written
  3    the topology could not be brought up, or it, the load generator or the disk failed while measuring
  4    the measurement is invalid: a topology has no valid step, or a threshold needed one
  99   a threshold failed
  130  interrupted; partial results are kept and reported
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["simserver"]:  # has options of its own, and must start fast
        from loadstair.simserver.main import main as simserver

        return simserver(arguments[1:])
    if sys.stdout is None:  # closed by the caller: `>&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    options = _parser().parse_args(arguments)
    options.command_line = ["loadstair", *arguments]
    try:
        with interruptible():
            code: int = options.command(options)
    except LoadstairError as error:
        _print_error(error)
        return error.exit_code
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadstair",
        description="Finds where an LLM serving topology saturates.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"loadstair {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    check = _command(commands, "check", "parse a plan and print what would happen", _check)
    _plan_options(check)
    check.add_argument("--live", action="store_true", help="also bring each topology up, ask it once, and take it down")

    run = _command(commands, "run", "measure a plan, analyse it, write the report", _run)
    _plan_options(run, required=False)
    run.add_argument("--out", type=Path, metavar="DIR", help="gets the run's folder (reports)")
    run.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in this folder, which ended early; PLAN may lack"
    )
    run.add_argument("--quiet", action="store_true", help="print errors only, and with them where the report is")

    forecast = _command(
        commands, "forecast", "predict a plan's staircase in seconds, without engines or load", _forecast
    )
    _plan_options(forecast)
    forecast.add_argument("--out", type=Path, metavar="DIR", help="gets the forecast's folder (reports)")
    forecast.add_argument(
        "--efficiencies", type=Path, metavar="FILE", help="constants of `loadstair fit` in place of the shipped ones"
    )

    fit = _command(commands, "fit", "fit the forecast's model of the GPU to a measured run", _fit)
    fit.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    fit.add_argument("--out", type=Path, metavar="FILE", help="gets the fitted constants, for --efficiencies")
    fit.add_argument("--json", action="store_true", help="print values instead of tables")

    analyze = _command(commands, "analyze", "make summary.json and results.json again from a run's files", _analyze)
    analyze.add_argument("run", type=Path, metavar="DIR", help="a run folder")

    report = _command(commands, "report", "make report.html and junit.xml again from a run's files", _report)
    report.add_argument("run", type=Path, metavar="DIR", help="a run folder")

    recover = _command(commands, "recover", "add the records that a lost worker kept on its host to a run", _recover)
    recover.add_argument("run", type=Path, metavar="DIR", help="a run folder")
    recover.add_argument("spools", type=Path, nargs="+", metavar="FILE", help="spool-*.msgpack, as the worker named it")

    calibrate = _command(
        commands,
        "calibrate",
        "measure this machine as a load generator: its ceiling and its timing error; about 2 minutes",
        _calibrate,
    )
    calibrate.add_argument(
        "--users",
        type=int,
        nargs="+",
        metavar="N",
        help="the levels to try for token chunks, rising; by default up to 2048 (those for requests stay as they are)",
    )
    calibrate.add_argument("--quick", action="store_true", help="fewer and shorter levels: about 40 s")
    calibrate.add_argument("--json", action="store_true", help="print what is kept, and no progress")

    worker = _command(
        commands, "worker", "send load for a `loadstair run` on another host (plan key workers); until Ctrl-C", _worker
    )
    worker.add_argument("master", metavar="MASTER[:PORT]", help="workers.bind and workers.port of the plan (5557)")
    worker.add_argument(
        "--processes", default="auto", metavar="N", help="worker processes; auto: one for each core (auto)"
    )
    worker.add_argument("--once", action="store_true", help="end after the first visit, not with Ctrl-C")

    sizing = _command(commands, "size", "which GPUs and topologies carry a load, how fast, at what cost", _size)
    add_size_options(sizing)

    commands.add_parser("simserver", help="one simulated engine (simserver --help)", add_help=False)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    command: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    return parser


def _plan_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "plan",
        type=Path,
        nargs=None if required else "?",
        metavar="PLAN",
        help="a plan file, such as plans/quickstart.yaml",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override one key: load.hold_s=5 (repeatable)"
    )
    parser.add_argument("--quick", action="store_true", help="4 of the steps, one repeat, short holds")


def _check(options: argparse.Namespace) -> int:
    plan = _plan_of(options)  # first: a mistake in it is told before the slow imports
    from loadstair.preview import live_check, preview

    console = _console()
    for line in preview(plan, options.plan.resolve().parent):
        console.print(Text(line), soft_wrap=True)
    if options.live:
        for line in live_check(plan, options.plan.resolve().parent):
            console.print(Text(line), soft_wrap=True)
    return 0


def _run(options: argparse.Namespace) -> int:
    _check_run_options(options)
    plan = None if options.plan is None else _plan_of(options)  # first, as above
    from loadstair.pipeline import resume, run
    from loadstair.progress import Progress

    console = _console()
    with Progress(console, quiet=options.quiet) as progress:
        if plan is None or options.resume is not None:
            finished = resume(options.resume, options.plan, plan, progress=progress)
        else:
            finished = run(
                plan,
                plan_dir=options.plan.resolve().parent,
                out=options.out or Path("reports"),
                command=options.command_line,
                quick=options.quick,
                progress=progress,
            )
    return _tell(finished, console, quiet=options.quiet)


def _forecast(options: argparse.Namespace) -> int:
    plan = _plan_of(options)
    from loadstair.fitting.kept import read_kept
    from loadstair.pipeline import forecast
    from loadstair.progress import Progress

    kept = None if options.efficiencies is None else read_kept(options.efficiencies)
    console = _console()
    with Progress(console, quiet=not console.is_terminal) as progress:
        finished = forecast(
            plan,
            plan_dir=options.plan.resolve().parent,
            out=options.out or Path("reports"),
            command=options.command_line,
            quick=options.quick,
            progress=progress,
            kept=kept,
        )
    return _tell(finished, console, quiet=False)


def _fit(options: argparse.Namespace) -> int:
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise UsageError(f"--out {options.out}: there is no folder {options.out.parent}")
    from loadstair.clock import utc_now
    from loadstair.fitting.kept import kept_fit, kept_text
    from loadstair.fitting.values import fit_values
    from loadstair.pipeline import fit_to
    from loadstair.report.fit_terminal import fit_text
    from loadstair.samples.run_folder import RunFolder, replacing

    folder = RunFolder.open(options.run)
    fit, record = fit_to(folder), folder.read_run()
    if options.out is not None:
        fitted = utc_now().isoformat(timespec="seconds")
        kept = kept_fit(fit, run=record.name, started=record.started, fitted=fitted, loadstair_version=__version__)
        with replacing(options.out) as temporary:
            temporary.write_text(kept_text(kept), encoding="utf-8")
    values = fit_values(fit, run=record.name, started=record.started)
    if options.json:
        sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")
        return 0
    console = _console()
    console.print(fit_text(values))
    if options.out is not None:
        console.print(Text(f"constants: {options.out}"), soft_wrap=True)
    return 0


def _tell(finished: "Finished", console: Console, *, quiet: bool) -> int:
    """The closing table, where the report is, and what went wrong; gives back the exit code."""
    from loadstair.report.terminal import closing_table

    if finished.summary is not None and not quiet:
        console.print(closing_table(finished.folder.read_json(finished.folder.summary_path)))
        console.print(Text(f"report: {finished.folder.report_path}"), soft_wrap=True)
    if finished.error is not None:
        _print_error(finished.error)
        if finished.summary is None:
            _print_to_stderr(f"nothing was measured; logs: {finished.folder.log_path}")
    elif finished.summary is not None:
        _print_verdict(finished.summary)
    if finished.summary is not None and quiet and finished.exit_code:
        _print_to_stderr(f"report: {finished.folder.report_path}")
    return finished.exit_code


def _check_run_options(options: argparse.Namespace) -> None:
    if options.resume is None:
        if options.plan is None:
            raise UsageError("run: give a PLAN, such as plans/quickstart.yaml, or --resume DIR")
        return
    if options.out is not None:
        raise UsageError("--out: a resumed run goes on in its own folder; leave it out")
    if options.plan is None and (options.set or options.quick):
        raise UsageError("--set and --quick change a PLAN, and none is given: the folder's own is taken as it is")


def _analyze(options: argparse.Namespace) -> int:
    from loadstair.pipeline import analyze, exit_code
    from loadstair.report.terminal import closing_table
    from loadstair.samples.run_folder import RunFolder

    folder = RunFolder.open(options.run)
    summary = analyze(folder)
    _console().print(closing_table(folder.read_json(folder.summary_path)))
    _print_verdict(summary)
    return exit_code(summary, None)


def _report(options: argparse.Namespace) -> int:
    from loadstair.pipeline import report
    from loadstair.samples.run_folder import RunFolder

    folder = RunFolder.open(options.run)
    report(folder)
    _console().print(Text(f"report: {folder.report_path}"), soft_wrap=True)
    return 0


def _recover(options: argparse.Namespace) -> int:
    from loadstair.pipeline import recover_spools

    added = recover_spools(options.run, options.spools)
    _console().print(Text(f"{added} records were added to {options.run}"), soft_wrap=True)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from loadstair.calibrate.calibration import calibrate
    from loadstair.calibrate.machine import machine
    from loadstair.calibrate.staircase import Told, effort
    from loadstair.calibrate.store import Store
    from loadstair.journal import usable_cores
    from loadstair.progress import Progress
    from loadstair.report.calibration import calibration_table
    from loadstair.report.render import render_calibration

    wanted = effort(quick=options.quick, users=_levels(options.users))
    store = Store.of_user()
    console = _console()
    with (
        store.reserved(),
        tempfile.TemporaryDirectory(prefix="loadstair-calibrate-", ignore_cleanup_errors=True) as folder,
        Progress(console, quiet=options.json) as progress,
    ):
        progress.begin(wanted.expected_s)
        told = Told(phase=progress.phase, level_done=progress.step_done)
        calibration = calibrate(wanted, machine=machine(cores=usable_cores()), log_dir=Path(folder), told=told)
        store.write(calibration, render_calibration(calibration))
    if options.json:
        sys.stdout.write(store.path.read_text(encoding="utf-8"))
    else:
        console.print(calibration_table(calibration))
        console.print(Text(f"kept: {store.path}"), soft_wrap=True)
        console.print(Text(f"plot: {store.page_path}"), soft_wrap=True)
    return 0


def _worker(options: argparse.Namespace) -> int:
    from loadstair.drive.remote import master_of, work
    from loadstair.journal import usable_cores

    console = _console()
    master = master_of(options.master)
    processes = usable_cores() if options.processes == "auto" else _processes(options.processes)
    work(master, processes=processes, once=options.once, say=lambda line: console.print(Text(line), soft_wrap=True))
    return 0


def _size(options: argparse.Namespace) -> int:
    from loadstair.report.sizing_terminal import sizing_text
    from loadstair.size_case import sizing_of
    from loadstair.sizing.values import sizing_values

    sizing = sizing_of(options)
    values = sizing_values(sizing)
    if options.json:
        sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")
    else:
        _console().print(sizing_text(values, chosen=options.gpu is not None))
    if sizing.misses_limits:
        _print_to_stderr("error: every topology that carries the load misses a latency limit")
        return MISSED
    return 0


def _processes(given: str) -> int:
    number = int(given) if given.isascii() and given.isdecimal() else 0
    if not 1 <= number <= PROCESSES_MAX:
        raise UsageError(f"--processes {given}: auto, or a whole number from 1 to {PROCESSES_MAX}")
    return number


def _levels(users: list[int] | None) -> tuple[int, ...] | None:
    if users is None:
        return None
    if users != sorted(set(users)) or not 1 <= users[0] <= users[-1] <= USERS_MAX:
        given = " ".join(map(str, users))
        raise UsageError(f"--users {given}: levels must rise and lie between 1 and {USERS_MAX}, such as 16 64 256")
    return tuple(users)


def _plan_of(options: argparse.Namespace) -> "Plan":
    from loadstair.plan.parse import read_plan
    from loadstair.plan.rules import expected_e2e_s
    from loadstair.plan.staircase import quick

    plan = read_plan(options.plan, options.set)
    return quick(plan, partial(expected_e2e_s, plan)) if options.quick else plan


class _Output(Console):
    """Standard output. A reader that goes away (`| head`) ends the talking, not the measurement."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console() -> Console:
    """As wide as the terminal; in a pipe so wide that no sentence is broken, for whoever searches in it."""
    return _Output() if sys.stdout.isatty() or "COLUMNS" in os.environ else _Output(width=PIPE_COLUMNS)


def _print_verdict(summary: "Summary") -> None:
    """One line for each reason why the exit code is 4 or 99."""
    for name in summary.topologies_without_valid_step:
        _print_to_stderr(f"error: the measurement is invalid: {name} has no valid step")
    for threshold in summary.thresholds:
        if threshold.status != "met":
            what = "failed" if threshold.status == "failed" else "cannot be judged"
            _print_to_stderr(f"error: threshold {what}: {threshold.text}: {threshold.message}")


def _print_to_stderr(line: str, style: str = "") -> None:
    """Log lines and servers' words come this way: what a terminal would obey is taken out of them."""
    Console(stderr=True).print(Text(without_controls(line), style=style), soft_wrap=True)


def _print_error(error: LoadstairError) -> None:
    for line in str(error).splitlines():
        _print_to_stderr(f"error: {line}", "red")
    for line in (getattr(error, "log_tail", None) or "").splitlines():
        _print_to_stderr(f"  | {line}", "dim")
