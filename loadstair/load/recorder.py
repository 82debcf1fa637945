"""Turns finished requests into records, in slices that never hold up the reads, and sends them in batches.

The books are exact: at every moment, for each step, started = ok + failed + killed + what is under way or unparsed.
"""

import logging
import sys
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import gevent
import msgpack
from gevent.event import Event

from loadstair.clock import Deadline, monotonic_ns
from loadstair.load.attempt import Attempt, Ended, sample, stream_parser
from loadstair.load.client import Failure
from loadstair.load.latencies import Packed, WorkerLatencies
from loadstair.load.timeline import StreamParser, Timeline
from loadstair.samples.latency import tokens_arrived, ttft_ns
from loadstair.samples.record import SAMPLE_FIELDS, Outcome, Phase, RequestSample
from loadstair.units import NS_PER_S

logger = logging.getLogger(__name__)

WORK_PER_SLICE: Final = 3000
"""Less than 1 ms of parsing, 330 ordinary events; the unit is that of `StreamParser.work`."""
WORK_PER_RECORD: Final = 300
"""What making and packing a record costs."""
BEHIND_NS: Final = NS_PER_S // 2
DOUBLINGS_MAX: Final = 5
"""For each `BEHIND_NS` that the oldest response has waited, slices double: a worker that has more to do than it can
reads late, which is seen, instead of filling its memory, which would end it."""
FLUSH_LOOK_S: Final = 0.005
BETWEEN_SLICES_S: Final = 0.001
"""A timer, not `sleep(0)`: that one runs the other greenlets without looking at the sockets."""
UNPARSED_BYTES_MAX: Final = 8 * 1024
"""Some 40 tokens. A stream that ends before it has so many is parsed at its end, in one go."""
LONG_STREAMS_S: Final = 0.25
BATCH_RECORDS: Final = 200
BATCH_S: Final = 0.5


@dataclass(slots=True)
class Books:
    """Counts of the requests dispatched in one step."""

    scheduled: int = 0
    """By the schedule of an open loop."""
    held_back: int = 0
    """Of those, by the limit of requests in flight."""
    started: int = 0
    ok: int = 0
    failed: int = 0
    killed: int = 0


@dataclass(slots=True)
class Totals:
    """Of all requests so far, as far as they were parsed."""

    tokens: int = 0
    first_tokens: int = 0
    """Requests whose first token has come."""
    ttft_ns_sum: int = 0
    """Of those."""


SendBatch = Callable[[bytes, int, dict[int, Packed]], None]


class Recorder:
    """`send_batch` gets a packed batch, how many records it has, and the latencies of its steps so far, and must not
    block for long: while it runs, `batches` and `counters` are those with this batch and no later one; None where
    nobody wants batches. `on_sample` gets each record, once."""

    def __init__(
        self,
        *,
        visit: int,
        topology: str,
        repeat: int,
        send_batch: SendBatch | None,
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
        self._unparsed: deque[tuple[int, Ended]] = deque()
        """Each with the monotonic time when it ended."""
        self._parsers: dict[Attempt, StreamParser] = {}
        """Of streams whose parsing has begun, until they are recorded."""
        self._broken: dict[Attempt, Exception] = {}
        """Those whose parser failed while they were under way."""
        self._rows: list[list[Any]] = []
        self._latencies = WorkerLatencies()
        self._told = Totals()
        """Of the requests that have their record."""
        self.batches = 0
        """Sent so far."""
        self._work = Event()
        self._ended = 0
        self._recorded = 0
        self._oldest_ns = 0
        """When the response that is being recorded ended."""
        self._budget = WORK_PER_SLICE
        self._greenlets = [gevent.spawn(self._parse_all), gevent.spawn(self._parse_long_streams)]
        if send_batch is not None:
            self._greenlets.append(gevent.spawn(self._send_regularly))

    def counters(self) -> dict[int, dict[str, int]]:
        return {step: asdict(books) for step, books in self._books.items()}

    def in_flight(self) -> int:
        return len(self._under_way)

    def in_flight_hold(self, step: int) -> int:
        return sum(attempt.tag.step == step and attempt.tag.phase is Phase.HOLD for attempt in self._under_way)

    def scheduled(self, step: int) -> None:
        self._books_of(step).scheduled += 1

    def held_back(self, step: int) -> None:
        self._books_of(step).held_back += 1

    def _books_of(self, step: int) -> Books:
        return self._books.setdefault(step, Books())

    def start(self, attempt: Attempt) -> None:
        self._books_of(attempt.tag.step).started += 1
        self._under_way.add(attempt)

    def end(self, over: Ended) -> None:
        self._under_way.discard(over.attempt)
        self._unparsed.append((monotonic_ns(), over))
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
                self._oldest_ns, over = self._unparsed.popleft()
                self._record(over)
            self._work.clear()

    def _parse_long_streams(self) -> None:
        """Keeps what streams leave unparsed small: many users share a worker's memory."""
        while True:
            gevent.sleep(LONG_STREAMS_S)
            self.parse_under_way(bytes_min=UNPARSED_BYTES_MAX)

    def parse_under_way(self, *, bytes_min: int = 0) -> None:
        """Parses the streams that are under way as far as they have come, if so many bytes of them are unparsed.

        One that breaks the parser gets its record when it ends, and hinders none of the others.
        """
        for attempt in list(self._under_way):
            if len(attempt.exchange.body) < bytes_min or attempt in self._broken:
                continue
            try:
                self._catch_up(attempt)
            except Exception as error:
                logger.exception("parsing request %s", attempt.exchange.request_id)
                self._broken[attempt] = error  # raised again when it is recorded: its parser has lost an event

    def _catch_up(self, attempt: Attempt) -> None:
        # Between two slices others may have ended and been recorded: a parser made for one would stay for good.
        parser = self._parser(attempt) if attempt in self._under_way else None
        while parser is not None and attempt in self._under_way:
            before = parser.work
            caught_up = parser.advance(self._budget, complete=False)
            self._spend(parser.work - before)
            if caught_up:
                break

    def tokens_unrecorded(self) -> int:
        """Tokens of requests that have no record yet, as far as they were parsed."""
        return sum(parser.tokens for parser in self._parsers.values())

    def totals(self) -> dict[str, int]:
        """As `Totals`: of requests with a record, and of streams under way as far as they were parsed."""
        totals = replace(self._told)
        for attempt, parser in self._parsers.items():
            totals.tokens += parser.tokens
            first_ns, sent_ns = parser.first_token_ns, attempt.exchange.sent_ns
            if first_ns is not None and sent_ns is not None:
                totals.first_tokens += 1
                totals.ttft_ns_sum += first_ns - sent_ns
        return asdict(totals)

    def _record(self, over: Ended) -> None:
        """Whatever a response makes of the parser, its request gets its record, and those behind it theirs."""
        attempt = over.attempt
        try:
            record = self._sample(over, self._timeline(attempt))
            row = packed_row(record)
        except Exception as error:
            logger.exception("recording request %s", attempt.exchange.request_id)
            failure = over.failure or Failure(
                Outcome.MALFORMED, f"the response could not be parsed: {type(error).__name__}"
            )
            record = self._sample(replace(over, failure=failure), None)
            row = packed_row(record)
        self._parsers.pop(attempt, None)
        self._broken.pop(attempt, None)
        self._tell(record, attempt)
        self._count(record)
        self._add(record)
        self._recorded += 1
        if self._send_batch is not None:
            self._rows.append(row)
            if len(self._rows) >= BATCH_RECORDS:
                self._send_rows()

    def _tell(self, record: RequestSample, attempt: Attempt) -> None:
        try:
            self._on_sample(record, attempt)
        except Exception:
            logger.exception("telling of request %s", record.request_id)

    def _timeline(self, attempt: Attempt) -> Timeline | None:
        self._spend(WORK_PER_RECORD)
        if attempt in self._broken:
            raise self._broken[attempt]
        parser = self._parser(attempt)
        if parser is None:
            return None
        finished = False
        while not finished:
            before = parser.work
            finished = parser.advance(self._budget)
            self._spend(parser.work - before)
        return parser.timeline()

    def _parser(self, attempt: Attempt) -> StreamParser | None:
        """The one of this request, begun if there is a stream by now."""
        parser = self._parsers.get(attempt) or stream_parser(attempt.exchange)
        if parser is not None:
            self._parsers[attempt] = parser
        return parser

    def _spend(self, work: int) -> None:
        self._budget -= work
        if self._budget <= 0:
            gevent.sleep(BETWEEN_SLICES_S)
            self._budget = self._slice()

    def _slice(self) -> int:
        behind_ns = monotonic_ns() - self._oldest_ns if self._unparsed else 0
        return WORK_PER_SLICE << min(behind_ns // BEHIND_NS, DOUBLINGS_MAX)

    def _sample(self, over: Ended, timeline: Timeline | None) -> RequestSample:
        return sample(
            over, timeline, visit=self._visit, topology=self._topology, repeat=self._repeat, worker=self.worker
        )

    def _count(self, record: RequestSample) -> None:
        books = self._books[record.step]
        match record.outcome:
            case Outcome.OK:
                books.ok += 1
            case Outcome.KILLED:
                books.killed += 1
            case _:
                books.failed += 1

    def _add(self, record: RequestSample) -> None:
        self._told.tokens += tokens_arrived(record)
        waited_ns = ttft_ns(record)
        if waited_ns is not None:
            self._told.first_tokens += 1
            self._told.ttft_ns_sum += waited_ns

    def _send_regularly(self) -> None:
        while True:
            gevent.sleep(BATCH_S)
            self._send_rows()

    def _send_rows(self) -> None:
        if not self._rows or self._send_batch is None:
            return
        rows, self._rows = self._rows, []
        self.batches += 1
        batch = msgpack.packb({"worker": self.worker, "records": rows})
        self._send_batch(batch, len(rows), self._latencies.add(rows))


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
