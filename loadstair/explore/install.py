"""Puts the measuring into a Locust process that nobody drives. Needs `locust` imported first."""

import os
import signal
from pathlib import Path

import gevent
from locust.env import Environment
from locust.runners import LocalRunner, WorkerRunner

from loadstair.errors import UsageError
from loadstair.explore.board import Board
from loadstair.explore.collector import Collector
from loadstair.explore.measuring import Measuring
from loadstair.explore.options import URL_VARIABLE, mistakes
from loadstair.explore.spool import Spool
from loadstair.explore.web.install import install_web
from loadstair.load.install import spare_the_parser


def install(environment: Environment) -> None:
    """Raises UsageError, with a line for each mistake of the command line."""
    runner, options = environment.runner, environment.parsed_options
    if runner is None or options is None:
        return
    spare_the_parser()
    gevent.signal_handler(signal.SIGINT, _interrupt)
    if isinstance(runner, WorkerRunner):
        options.json = False  # the master prints it: more of it from each worker would be no JSON any more
        _measure(environment, runner)
        return
    if not environment.host:
        environment.host = os.environ.get(URL_VARIABLE) or None
    starts_now = bool(options.headless or options.autostart)
    wrong = mistakes(vars(options) | {"host": environment.host}, host_needed=starts_now)
    if wrong:
        raise UsageError("\n".join(wrong))
    board = Board(Spool(Path(options.records) if options.records else None), users=lambda: runner.user_count)
    # In the order of their adding: a test is known before it is measured, and measured to its end before it is closed.
    collector = Collector(environment, runner, board)
    environment.events.test_start.add_listener(collector.begin)  # type: ignore[no-untyped-call]
    if isinstance(runner, LocalRunner):
        _measure(environment, runner)
    environment.events.test_stop.add_listener(collector.end)  # type: ignore[no-untyped-call]
    environment.events.reset_stats.add_listener(collector.reset)  # type: ignore[no-untyped-call]
    environment.events.spawning_complete.add_listener(collector.spawned)  # type: ignore[no-untyped-call]
    environment.events.quit.add_listener(collector.close)  # type: ignore[no-untyped-call]
    if environment.web_ui is not None:
        install_web(environment, board, mistakes)


def _interrupt() -> None:
    """Python would raise it in whatever greenlet happens to run and end that one: the parser of the last responses,
    say. Locust waits for it in the main greenlet."""
    hub = gevent.get_hub()
    assert hub.parent is not None
    hub.loop.run_callback(hub.parent.throw, KeyboardInterrupt)


def _measure(environment: Environment, runner: WorkerRunner | LocalRunner) -> None:
    measuring = Measuring(environment, runner)
    environment.events.test_start.add_listener(measuring.begin)  # type: ignore[no-untyped-call]
    environment.events.test_stop.add_listener(measuring.end)  # type: ignore[no-untyped-call]
    environment.events.quitting.add_listener(measuring.leave)  # type: ignore[no-untyped-call]
