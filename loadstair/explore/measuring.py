"""The measuring side of a test that nobody drives: in every process that has users."""

import logging
import os
from typing import Any, Final

from locust.env import Environment
from locust.runners import STATE_CLEANUP, STATE_STOPPED, LocalRunner, WorkerRunner

from loadstair.errors import LoadError
from loadstair.explore.messages import FINISH, REPORT, RESET
from loadstair.explore.options import FOUND_TEST, asked
from loadstair.explore.reporter import Reporter
from loadstair.explore.tally import Tally
from loadstair.load.gate import Gate
from loadstair.load.tag import Tag
from loadstair.load.user import ChatUser
from loadstair.load.worker import WorkerLoad
from loadstair.samples.record import Phase

logger = logging.getLogger(__name__)


LEAVE_S: Final = 60.0


class Measuring:
    """Makes the load of each test anew, because the form may have changed host and options."""

    def __init__(self, environment: Environment, runner: WorkerRunner | LocalRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._reporter: Reporter | None = None
        runner.register_message(RESET, self._on_reset)
        runner.register_message(FINISH, self._on_finish, concurrent=True)

    def begin(self, environment: Environment, **_: Any) -> None:
        """At the start of a test."""
        if ChatUser.load is not None:
            ChatUser.load.close()
            ChatUser.load = None
        self._reporter = None
        options = vars(environment.parsed_options)
        if FOUND_TEST not in options:
            logger.error("no load from here: the master did not say which test this is")
            return
        test, epoch = options[FOUND_TEST]
        rank = max(0, self._runner.worker_index)
        worker = f"worker-{rank}"
        try:
            wanted = asked(options | {"host": environment.host})
            reporter = Reporter(self._runner, environment.events, wanted.limits, worker=worker, test=test, epoch=epoch)
            ChatUser.load = WorkerLoad(
                wanted.load_config(seed=rank),
                environment,
                nonce=os.urandom(32),
                gate=Gate(seed=rank, tag=Tag(step=0, load=0.0, phase=Phase.WARMUP), active=None),
                on_record=reporter.on_record,
            )
        except (LoadError, ValueError) as error:
            logger.error("no load from here: %s", error)
            return
        ChatUser.load.recorder.worker = worker
        self._reporter = reporter
        reporter.start(ChatUser.load.recorder)

    def end(self, **_: Any) -> None:
        """When the users have stopped."""
        if self._reporter is not None:
            self._reporter.finish()

    def leave(self, **_: Any) -> None:
        """Before this process says goodbye to the master: what it has measured goes first."""
        self._stop()
        if self._reporter is not None:  # the stopping may be under way in another greenlet
            self._reporter.finished.wait(timeout=LEAVE_S)

    def _stop(self) -> None:
        if self._runner.state not in (STATE_CLEANUP, STATE_STOPPED):
            self._runner.stop()

    def _on_reset(self, msg: Any, **_: Any) -> None:
        if self._reporter is not None and msg.data["test"] == self._reporter.test:
            self._reporter.reset(msg.data["epoch"])

    def _on_finish(self, msg: Any, **_: Any) -> None:
        """Stopping leads to `end`, and that to the final report."""
        if self._reporter is not None and msg.data["test"] == self._reporter.test:
            self._stop()
            return
        nothing = {"number": 1, "as_of_ns": 0, "tally": Tally().packed(), "in_flight": 0, "rows": 0, "final": True}
        self._runner.send_message(REPORT, msg.data | nothing)
