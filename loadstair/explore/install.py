"""Puts the measuring into a Locust process that nobody drives. Needs `locust` imported first."""

import logging
import os
import signal
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import LocalRunner, WorkerRunner

from loadstair.errors import UsageError
from loadstair.explore.board import Board
from loadstair.explore.collector import Collector
from loadstair.explore.host import origin
from loadstair.explore.measuring import Measuring
from loadstair.explore.options import KEY_ORIGIN, URL_VARIABLE, key_withheld, mistakes
from loadstair.explore.spool import Spool
from loadstair.explore.web.install import install_web
from loadstair.load.install import spare_the_parser

logger = logging.getLogger(__name__)


def install(environment: Environment) -> None:
    """Raises UsageError, with a line for each mistake of the command line."""
    runner, options = environment.runner, environment.parsed_options
    if runner is None or options is None:
        return
    spare_the_parser()
    gevent.signal_handler(signal.SIGINT, _interrupt)
    environment.events.test_start.add_listener(_say_if_key_is_withheld)  # type: ignore[no-untyped-call]
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
    setattr(options, KEY_ORIGIN, origin(environment.host or ""))  # the workers get it with the options
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
        install_web(environment, board, mistakes, notice=lambda: _key_withheld(environment))
    # Importing took up to seconds, in which the loop's clock stood still: --run-time would begin that long ago.
    gevent.get_hub().loop.update_now()


def _key_withheld(environment: Environment) -> str | None:
    return key_withheld(vars(environment.parsed_options) | {"host": environment.host})


def _say_if_key_is_withheld(environment: Environment, **_: Any) -> None:
    """In every process: the key may stand in the workers' environment alone."""
    line = _key_withheld(environment)
    if line is not None:
        logger.warning("%s", line)


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
