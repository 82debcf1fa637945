"""Turns finished requests into records, in slices that never hold up the reads, and sends them in batches.

The books are exact: at every moment, for each step, started = ok + failed + killed + what is under way or unparsed.
"""

import sys
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import gevent
import msgpack
from gevent.event import Event

from loadstair.clock import Deadline
from loadstair.load.attempt import Attempt, Ended, sample, stream_parser
from loadstair.samples.record import SAMPLE_FIELDS, Outcome, Phase, RequestSample

EVENTS_PER_SLICE: Final = 150
"""About 1 ms of parsing."""
EVENTS_PER_RECORD: Final = 15
"""What making and packing a record costs, in events."""
FLUSH_LOOK_S: Final = 0.005
BETWEEN_SLICES_S: Final = 0.001
"""A timer, not `sleep(0)`: that one runs the other greenlets without looking at the sockets."""
BATCH_RECORDS: Final = 200
BATCH_S: Final = 0.5


@dataclass(slots=True)
class Books:
    """Counts of the requests dispatched in one step."""

    started: int = 0
    ok: int = 0
    failed: int = 0
    killed: int = 0


class Recorder:
    """`send_batch` gets (sequence, packed batch) and must not block for long; `on_sample` each record, once."""

    def __init__(
        self,
        *,
        visit: int,
        topology: str,
        repeat: int,
        send_batch: Callable[[int, bytes], None],
        on_sample: Callable[[RequestSample, Attempt], None],
    ) -> None:
        self.worker = "worker"
        self._visit = visit
        self._topology = topology
        self._repeat = repeat
        self._send_batch = send_batch
        self._on_sample = on_sample
        self._books: dict[int, Books] = {}
        self._under_way: set[Attempt] = set()
        self._unparsed: deque[Ended] = deque()
        self._rows: list[list[Any]] = []
        self._sequence = 0
        self._work = Event()
        self._ended = 0
        self._recorded = 0
        self._budget = EVENTS_PER_SLICE
        self._greenlets = [gevent.spawn(self._parse_all), gevent.spawn(self._send_regularly)]

    def counters(self) -> dict[int, dict[str, int]]:
        return {step: asdict(books) for step, books in self._books.items()}

    def in_flight(self) -> int:
        return len(self._under_way)

    def in_flight_hold(self, step: int) -> int:
        return sum(attempt.tag.step == step and attempt.tag.phase is Phase.HOLD for attempt in self._under_way)

    @property
    def sequence(self) -> int:
        """Batches sent so far: the number the next one gets."""
        return self._sequence

    def start(self, attempt: Attempt) -> None:
        self._books.setdefault(attempt.tag.step, Books()).started += 1
        self._under_way.add(attempt)

    def end(self, over: Ended) -> None:
        self._under_way.discard(over.attempt)
        self._unparsed.append(over)
        self._ended += 1
        self._work.set()

    def flush(self, deadline: Deadline) -> bool:
        """Parses and hands over everything that has ended until now; False if that took too long."""
        wanted = self._ended
        while self._recorded < wanted and not deadline.passed():
            gevent.sleep(FLUSH_LOOK_S)
        self._send_rows()
        return self._recorded >= wanted

    def close(self) -> None:
        gevent.killall(self._greenlets)

    def _parse_all(self) -> None:
        while True:
            self._work.wait()
            while self._unparsed:
                self._record(self._unparsed.popleft())
                self._recorded += 1
            self._work.clear()

    def _record(self, over: Ended) -> None:
        parser = stream_parser(over.attempt.exchange)
        timeline = None
        if parser is not None:
            while not parser.advance(self._budget):
                self._pause()
            timeline = parser.timeline()
            self._budget -= parser.events % EVENTS_PER_SLICE
        self._budget -= EVENTS_PER_RECORD
        if self._budget <= 0:
            self._pause()
        record = sample(
            over, timeline, visit=self._visit, topology=self._topology, repeat=self._repeat, worker=self.worker
        )
        books = self._books[record.step]
        match record.outcome:
            case Outcome.OK:
                books.ok += 1
            case Outcome.KILLED:
                books.killed += 1
            case _:
                books.failed += 1
        self._rows.append(packed_row(record))
        self._on_sample(record, over.attempt)
        if len(self._rows) >= BATCH_RECORDS:
            self._send_rows()

    def _pause(self) -> None:
        gevent.sleep(BETWEEN_SLICES_S)
        self._budget = EVENTS_PER_SLICE

    def _send_regularly(self) -> None:
        while True:
            gevent.sleep(BATCH_S)
            self._send_rows()

    def _send_rows(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        sequence, self._sequence = self._sequence, self._sequence + 1
        batch = {"worker": self.worker, "sequence": sequence, "records": rows}
        self._send_batch(sequence, msgpack.packb(batch))


def packed_row(record: RequestSample) -> list[Any]:
    """The fields in order; the two lists as little-endian int64 and int32 bytes."""
    row = [getattr(record, name) for name in SAMPLE_FIELDS]
    row[_ARRIVALS] = _little_endian(array("q", record.arrivals))
    if record.chunk_tokens is not None:
        row[_CHUNK_TOKENS] = _little_endian(array("i", record.chunk_tokens))
    return row


_ARRIVALS: Final = SAMPLE_FIELDS.index("arrivals")
_CHUNK_TOKENS: Final = SAMPLE_FIELDS.index("chunk_tokens")


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
