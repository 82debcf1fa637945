"""A reporter and the board it tells, in one process, without a server: what its answers are made of is known.

The name of a scene as argument, what the board shows then on stdout, as JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import gevent
from locust.env import Environment  # first: importing it patches the process

from loadstair.clock import now_ns
from loadstair.explore.board import Board
from loadstair.explore.events import add_events
from loadstair.explore.measuring import Measuring
from loadstair.explore.messages import REPORT, ROWS
from loadstair.explore.numbers import Limits
from loadstair.explore.reporter import Reporter
from loadstair.explore.spool import Spool
from loadstair.load.attempt import Attempt, Ended
from loadstair.load.recorder import Recorder
from tests.samples.records import attempt

CHUNK = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
LIMITS = Limits(ttft_ms=None, tpot_ms=None, e2e_ms=None)


class Scene:
    def __init__(self) -> None:
        environment = Environment()
        add_events(environment.events)
        runner = environment.create_local_runner()
        self.board = Board(Spool(), users=lambda: 0)
        self.board.begin("t", LIMITS)
        runner.register_message(REPORT, lambda msg, **_: self.board.hear_report("w", msg.data))
        runner.register_message(ROWS, lambda msg, **_: self.board.hear_rows("w", msg.data))
        self.reporter = Reporter(runner, environment.events, LIMITS, worker="w", test="t", epoch=0)
        self.recorder = Recorder(
            visit=0, topology="", repeat=0, send_batch=None, on_sample=lambda *told: self.reporter.on_record(*told)
        )
        self.reporter._recorder = self.recorder  # as `start` does, without the reports of every second

    def stream(self, chunks: int) -> Attempt:
        """One that is under way."""
        one = attempt()
        one.exchange.status, one.exchange.sent_ns = 200, now_ns()
        self.recorder.start(one)
        arrive(one, CHUNK * chunks)
        return one

    def end(self, one: Attempt) -> None:
        arrive(one, DONE)
        self.recorder.end(Ended(attempt=one, failure=None, end_ns=now_ns(), clock_step=False))

    def shown(self) -> dict[str, Any]:
        tally = self.board.total_tally()
        rows = len("".join(self.board.records_csv()).splitlines()) - 1
        return {"epoch": self.board.epoch, "tokens": tally.tokens, "ok": tally.ok, "rows": rows}


def arrive(one: Attempt, data: bytes) -> None:
    exchange = one.exchange
    exchange.body += data
    exchange.note_arrival(now_ns(), now_ns(), 0)


def reset() -> dict[str, Any]:
    """Nobody has parsed a thing when the reset comes."""
    scene = Scene()
    growing = [scene.stream(50) for _ in range(20)]
    over = scene.stream(3_000)  # takes longer to parse than all the others
    scene.end(over)
    scene.board.reset()
    scene.reporter.reset(1)
    scene.reporter.report()
    at_once = scene.shown()
    for one in growing:
        arrive(one, CHUNK * 7)
    scene.recorder.parse_under_way()
    scene.reporter.report()
    under_way = scene.shown()
    for one in growing:
        scene.end(one)
    scene.reporter.finish()
    return {"at once": at_once, "under way": under_way, "at the end": scene.shown()}


def two_resets() -> dict[str, Any]:
    """The second comes while the first one still parses, and the first has longer to do."""
    scene = Scene()
    scene.stream(20_000)
    first = gevent.spawn(scene.reporter.reset, 1)
    gevent.sleep(0)
    scene.reporter._recorder = None  # the second has nothing to parse
    scene.board.reset()
    scene.board.reset()
    scene.reporter.reset(2)
    scene.reporter._recorder = scene.recorder
    first_was_slower = not first.dead
    first.join()
    scene.reporter.report()
    return {"first was slower": first_was_slower, "heard": scene.board.workers}


def broken() -> dict[str, Any]:
    """A stream that the parser cannot take: its stamps end before its body does, which the transport never makes."""
    scene = Scene()
    one = scene.stream(3)
    one.exchange.end_offset[0] = 1
    scene.board.reset()
    scene.reporter.reset(1)
    scene.reporter.report()
    return {"heard": scene.board.workers}


def untold() -> dict[str, Any]:
    """A test starts, and the master has not said which."""
    environment = Environment()
    environment.parsed_options = argparse.Namespace()
    measuring = Measuring(environment, environment.create_local_runner())
    measuring.begin(environment)
    measuring.end()
    measuring.leave()
    return {"lived": True}


SCENES: dict[str, Callable[[], dict[str, Any]]] = {
    "reset": reset,
    "two resets": two_resets,
    "broken": broken,
    "untold": untold,
}

if __name__ == "__main__":
    print(json.dumps(SCENES[sys.argv[1]]()))
