"""A worker's part in a test that nobody drives: what its requests came to, told to the master about once a second."""

import logging
from collections import deque
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.lock import RLock
from locust.event import Events
from locust.exception import RPCError
from locust.runners import Runner

from loadstair.clock import Deadline, monotonic_ns
from loadstair.explore.events import fire
from loadstair.explore.messages import REPORT, ROWS
from loadstair.explore.numbers import Limits
from loadstair.explore.rows import row
from loadstair.explore.tally import Tally
from loadstair.load.attempt import Attempt
from loadstair.load.recorder import Recorder
from loadstair.samples.record import RequestSample

logger = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
FLUSH_S: Final = 20.0
RESET_S: Final = 2.0
"""While it parses, the process hears no other message, and in a single process the reset's caller waits."""
MESSAGE_CHARACTERS: Final = 256 * 1024
HELD_CHARACTERS_MAX: Final = 64 * 1024 * 1024
"""Of rows, while the master does not take them."""
FINAL_TRIES: Final = 3


class Reporter:
    """`on_record` is what the load calls; `start`, then `reset` any number of times, then `finish`."""

    def __init__(self, runner: Runner, events: Events, limits: Limits, *, worker: str, test: str, epoch: int) -> None:
        self.test = test
        self.finished = Event()
        self._runner = runner
        self._events = events
        self._limits = limits
        self._worker = worker
        self._epoch = epoch
        self._tally = Tally()
        self._number = 0
        self._rows: deque[str] = deque()
        self._characters = 0
        self._first_row = 0
        """Records made in this epoch before `_rows[0]`."""
        self._made = 0
        self._sending = RLock()
        self._recorder: Recorder | None = None
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._greenlet = gevent.spawn(self._report_regularly)

    def on_record(self, record: RequestSample, attempt: Attempt) -> None:
        self._tally.add(record, self._limits)
        self._keep(row(record, name=attempt.name, worker=self._worker))
        fire(self._events, record, attempt.name)

    def _keep(self, line: str) -> None:
        self._made += 1
        self._rows.append(line)
        self._characters += len(line)
        while self._characters > HELD_CHARACTERS_MAX:
            self._characters -= len(self._rows.popleft())
            self._first_row += 1

    def reset(self, epoch: int) -> None:
        """Counts from zero. Requests that had ended stay out, and so do tokens that had come, also those of requests
        that are still under way. Takes as long as the parsing of what had come."""
        if self._recorder is not None:
            if not self._recorder.flush(Deadline.after_s(RESET_S)):
                logger.warning("some responses that ended before the reset are counted after it")
            self._recorder.parse_under_way()
        if epoch <= self._epoch:
            return  # a later reset was quicker
        self._epoch = epoch
        self._tally = Tally(tokens=-(self._recorder.tokens_unrecorded() if self._recorder else 0))
        self._rows.clear()
        self._characters = self._first_row = self._made = 0

    def finish(self) -> None:
        """Parses what is left and reports it. To be called once the users have stopped."""
        if self._greenlet is not None:
            with self._sending:  # not in the middle of a message
                self._greenlet.kill()
            self._greenlet = None
        if self._recorder is not None and not self._recorder.flush(Deadline.after_s(FLUSH_S)):
            logger.warning("some responses could not be parsed in time: they are missing in the numbers")
        for _ in range(FINAL_TRIES):
            if self.report(final=True):
                break
            gevent.sleep(PERIOD_S)
        self.finished.set()

    def _report_regularly(self) -> None:
        while True:
            try:
                if self._recorder is not None:
                    self._recorder.parse_under_way()
                self.report()
            except Exception:
                logger.exception("reporting to the master")
            gevent.sleep(PERIOD_S)

    def report(self, *, final: bool = False) -> bool:
        """False if the master could not be told; what it does not know is kept for the next time."""
        with self._sending:
            try:
                while self._rows:
                    self._send_rows()
                self._runner.send_message(REPORT, self._state(final=final))
            except RPCError as error:
                logger.warning("reporting to the master: %s", error)
                return False
            return True

    def _send_rows(self) -> None:
        lines: list[str] = []
        size = 0
        for line in self._rows:
            if lines and size + len(line) > MESSAGE_CHARACTERS:
                break
            lines.append(line)
            size += len(line)
        epoch, before = self._epoch, self._first_row
        message = {"test": self.test, "epoch": epoch, "before": before, "count": len(lines), "csv": "".join(lines)}
        self._runner.send_message(ROWS, message)
        if (self._epoch, self._first_row) != (epoch, before):
            return  # while it was sent, a reset or a full store had dropped them
        for _ in lines:
            self._rows.popleft()
        self._characters -= size
        self._first_row += len(lines)

    def _state(self, *, final: bool) -> dict[str, Any]:
        self._number += 1
        tally = self._tally.packed()
        unrecorded = self._recorder.tokens_unrecorded() if self._recorder else 0
        return {
            "test": self.test,
            "epoch": self._epoch,
            "number": self._number,
            "as_of_ns": monotonic_ns(),
            "tally": tally | {"tokens": tally["tokens"] + unrecorded},
            "in_flight": self._recorder.in_flight() if self._recorder else 0,
            "rows": self._made,
            "final": final,
        }
