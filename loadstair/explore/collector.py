"""The collecting side of a test that nobody drives: in the master, or in the only process."""

import logging
import uuid
from typing import Any, Final

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner

from loadstair.clock import Deadline
from loadstair.errors import LoadError
from loadstair.explore.board import Board
from loadstair.explore.messages import FINISH, REPORT, RESET, ROWS
from loadstair.explore.options import FOUND_MODEL, FOUND_TEST, Asked, asked
from loadstair.explore.served import only_model
from loadstair.explore.table import closing_table

logger = logging.getLogger(__name__)
console = logging.getLogger("locust.stats_logger")
"""Where Locust's own tables go: standard error. Standard output belongs to `--json`."""

TICK_S: Final = 1.0
FINISH_S: Final = 30.0
FINISH_LOOK_S: Final = 0.05


class Collector:
    def __init__(self, environment: Environment, runner: Runner, board: Board) -> None:
        self._environment = environment
        self._runner = runner
        self._board = board
        self._test = ""
        self._there_at_start: set[str] = set()
        runner.register_message(REPORT, self._on_report)
        runner.register_message(ROWS, self._on_rows)
        gevent.spawn(self._tick)

    def begin(self, environment: Environment, **_: Any) -> None:
        """At the start of a test, before any worker hears of it. Does not return if the test cannot start."""
        options = environment.parsed_options
        try:
            wanted = self._wanted(vars(options) | {"host": environment.host, FOUND_MODEL: None})
        except ValueError as error:
            self._refuse("; ".join(str(error).splitlines()), exit_code=2)
        except LoadError as error:
            self._refuse(str(error), exit_code=error.exit_code)
        self._test = uuid.uuid4().hex
        self._there_at_start = self._connected()
        self._board.begin(self._test, wanted.limits)
        setattr(options, FOUND_MODEL, wanted.workload.model)
        self._tell_epoch()

    def _wanted(self, options: dict[str, Any]) -> Asked:
        wanted = asked(options)
        if options["model"]:
            return wanted
        model = only_model(wanted.base_url, key=wanted.key())
        logger.info("the server's only model is asked for: %s", model)
        return asked(options | {FOUND_MODEL: model})

    def _refuse(self, why: str, *, exit_code: int) -> None:
        """Ends the greenlet that was to start the test: Locust would log any other exception and start it."""
        self._board.refusal = why
        logger.error("the test does not start: %s", why)
        options = self._environment.parsed_options
        if options is not None and options.headless:
            self._environment.process_exit_code = exit_code
            gevent.spawn(self._runner.quit)
        raise gevent.GreenletExit

    def _tell_epoch(self) -> None:
        """With the options it reaches also the workers that come later."""
        setattr(self._environment.parsed_options, FOUND_TEST, [self._test, self._board.epoch])

    def reset(self, **_: Any) -> None:
        if not self._test:
            return
        self._board.reset()
        self._tell_epoch()
        self._runner.send_message(RESET, {"test": self._test, "epoch": self._board.epoch})

    def spawned(self, **_: Any) -> None:
        """Locust's `--reset-stats` resets its own numbers at this moment, without an event."""
        if self._environment.reset_stats:
            self.reset()

    def end(self, **_: Any) -> None:
        """When a test stops: waits until every worker that still lives has said its last.

        Locust's own way of quitting would stop the users only after this, and then wait half a second.
        """
        if not self._board.test_running:
            return
        deadline = Deadline.after_s(FINISH_S + self._environment.stop_timeout)
        for worker in self._unfinished():
            self._runner.send_message(FINISH, {"test": self._test, "epoch": self._board.epoch}, worker)
        while self._unfinished() and not deadline.passed():
            gevent.sleep(FINISH_LOOK_S)
        for worker in self._unfinished():
            logger.warning("%s did not report to the end: its last seconds are missing", worker)
        self._board.end()

    def _unfinished(self) -> list[str]:
        wanted = self._connected() & (self._there_at_start | set(self._board.workers))
        return [worker for worker in sorted(wanted) if not self._board.is_final(worker)]

    def _connected(self) -> set[str]:
        if not isinstance(self._runner, MasterRunner):
            return set()
        return {client.id for client in self._runner.clients.all if client.state != STATE_MISSING}

    def close(self, **_: Any) -> None:
        """At the very end of the process."""
        if self._test:
            for line in closing_table(self._board.total()):
                console.info(line)
            console.info("")
            if self._board.records_stopped:
                console.info(self._board.records_stopped)
        self._board.close()

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            try:
                self._board.tick()
            except Exception:
                logger.exception("the live numbers")

    def _on_report(self, msg: Any, **_: Any) -> None:
        self._board.hear_report(msg.node_id, msg.data)

    def _on_rows(self, msg: Any, **_: Any) -> None:
        self._board.hear_rows(msg.node_id, msg.data)
