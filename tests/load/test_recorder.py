import gevent
import msgpack

from loadstair.clock import Deadline, monotonic_ns, now_ns
from loadstair.load.attempt import Attempt, Ended
from loadstair.load.exchange import Exchange
from loadstair.load.recorder import WORK_PER_SLICE, Recorder
from loadstair.load.tag import Tag
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import SAMPLE_FIELDS, Phase, RequestSample

EVENT = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
DONE = EVENT + b"data: [DONE]\n\n"

NO_SCHEDULE = {"scheduled": 0, "held_back": 0}


def attempt(index: int, *, stamped_bytes: int) -> Attempt:
    """A complete response; the stamps account for so many bytes of it."""
    exchange = Exchange(f"request-{index}")
    exchange.status, exchange.sent_ns = 200, now_ns()
    exchange.body += DONE
    exchange.note_arrival(now_ns(), now_ns(), 0)
    exchange.end_offset[0] = stamped_bytes
    return Attempt(
        name="chat",
        tag=Tag(step=0, load=1.0, phase=Phase.HOLD),
        index=index,
        spec=RequestSpec(input_tokens=1, output_tokens=1, prefix_tokens=0, text_seed=0),
        prompt_words=1,
        exchange=exchange,
        due_ns=None,
        dispatch_ns=now_ns(),
        clock_offset_ns=0,
    )


class Kept:
    """A recorder, and what it sent: each row as a dict."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.seen: list[RequestSample] = []
        self.recorder = Recorder(
            visit=0, topology="t", repeat=0, send_batch=self._send, on_sample=lambda record, _: self.seen.append(record)
        )

    def _send(self, packed: bytes, _records: int, _latencies: object) -> None:
        rows = msgpack.unpackb(packed)["records"]
        self.rows += [dict(zip(SAMPLE_FIELDS, row, strict=True)) for row in rows]

    def run(self, *attempts: Attempt) -> None:
        for each in attempts:
            self.recorder.start(each)
            self.recorder.end(Ended(attempt=each, failure=None, end_ns=now_ns(), clock_step=False))
        assert self.recorder.flush(Deadline.after_s(20.0))
        self.recorder.close()


def test_a_response_that_breaks_the_parser_costs_its_own_request_and_no_other() -> None:
    """Here an exchange whose stamps end before its body does, which the transport never makes."""
    kept = Kept()
    whole, short = len(DONE), len(DONE) // 4
    kept.run(attempt(0, stamped_bytes=whole), attempt(1, stamped_bytes=short), attempt(2, stamped_bytes=whole))
    assert [row["outcome"] for row in kept.rows] == ["ok", "malformed", "ok"]
    assert kept.rows[1]["error"] == "the response could not be parsed: IndexError"
    assert kept.recorder.counters() == {0: NO_SCHEDULE | {"started": 3, "ok": 2, "failed": 1, "killed": 0}}


def test_the_books_of_a_batch_count_its_rows() -> None:
    kept = Kept()
    kept.run(*[attempt(index, stamped_bytes=len(DONE)) for index in range(5)])
    assert len(kept.rows) == len(kept.seen) == kept.recorder.counters()[0]["ok"] == 5
    assert kept.recorder.batches == 1


def test_a_stream_under_way_is_parsed_once_and_its_tokens_are_known_before_it_ends() -> None:
    kept = Kept()
    growing = attempt(0, stamped_bytes=len(DONE))
    body = growing.exchange.body
    kept.recorder.start(growing)
    del body[len(DONE) - 10 :]
    kept.recorder.parse_under_way()
    assert (kept.recorder.tokens_unrecorded(), kept.rows) == (1, [])
    body += DONE[-10:]
    kept.recorder.end(Ended(attempt=growing, failure=None, end_ns=now_ns(), clock_step=False))
    assert kept.recorder.flush(Deadline.after_s(20.0))
    kept.recorder.close()
    assert (kept.recorder.tokens_unrecorded(), kept.rows[0]["outcome"]) == (0, "ok")
    assert kept.seen[0].arrivals == growing.exchange.stamps_ns


def test_a_stream_under_way_that_breaks_the_parser_is_left_alone_until_it_ends_and_the_others_are_parsed() -> None:
    kept = Kept()
    broken, whole = attempt(0, stamped_bytes=0), attempt(1, stamped_bytes=len(DONE))
    for each in (broken, whole):
        kept.recorder.start(each)
    for _ in range(2):
        kept.recorder.parse_under_way()
        assert kept.recorder.tokens_unrecorded() == 1
    for each in (broken, whole):
        kept.recorder.end(Ended(attempt=each, failure=None, end_ns=now_ns(), clock_step=False))
    assert kept.recorder.flush(Deadline.after_s(20.0))
    kept.recorder.close()
    assert [row["outcome"] for row in kept.rows] == ["malformed", "ok"]


def test_what_ends_while_another_is_parsed_leaves_nothing_behind() -> None:
    kept = Kept()
    long = attempt(0, stamped_bytes=0)
    long.exchange.body[:] = DONE[: DONE.index(b"\n\n") + 2] * 20_000 + DONE  # takes 100 slices and more
    long.exchange.end_offset[0] = len(long.exchange.body)
    short = [attempt(index, stamped_bytes=len(DONE)) for index in range(1, 41)]  # most come after it in the set
    for each in (long, *short):
        kept.recorder.start(each)
    parsing = gevent.spawn(kept.recorder.parse_under_way)
    gevent.sleep(0)  # until its first pause
    for each in short:
        kept.recorder.end(Ended(attempt=each, failure=None, end_ns=now_ns(), clock_step=False))
    assert kept.recorder.flush(Deadline.after_s(20.0))
    assert not parsing.dead
    kept.recorder.end(Ended(attempt=long, failure=None, end_ns=now_ns(), clock_step=False))
    assert kept.recorder.flush(Deadline.after_s(20.0))
    parsing.join()
    kept.recorder.close()
    assert {row["outcome"] for row in kept.rows} == {"ok"}
    assert kept.recorder._parsers == {}


def test_a_listener_that_fails_costs_no_record() -> None:
    def fail(record: RequestSample, attempt: Attempt) -> None:
        raise RuntimeError("a mistake in a listener")

    recorder = Recorder(visit=0, topology="t", repeat=0, send_batch=None, on_sample=fail)
    one = attempt(0, stamped_bytes=len(DONE))
    recorder.start(one)
    recorder.end(Ended(attempt=one, failure=None, end_ns=now_ns(), clock_step=False))
    assert recorder.flush(Deadline.after_s(20.0))
    recorder.close()
    assert recorder.counters() == {0: NO_SCHEDULE | {"started": 1, "ok": 1, "failed": 0, "killed": 0}}


def test_a_worker_that_is_behind_parses_more_at_a_time() -> None:
    """Here something else has the loop for 20 ms after each slice, as sending does at the worker's limit."""
    kept = Kept()
    turns = 0

    def be_busy() -> None:
        nonlocal turns
        while True:
            turns += 1
            until_ns = monotonic_ns() + 20_000_000
            while monotonic_ns() < until_ns:
                pass
            gevent.sleep(0.001)

    for index in range(100):
        one = attempt(index, stamped_bytes=0)
        one.exchange.body[:] = EVENT * 800 + DONE
        one.exchange.end_offset[0] = len(one.exchange.body)
        kept.recorder.start(one)
        kept.recorder.end(Ended(attempt=one, failure=None, end_ns=now_ns(), clock_step=False))
    hog = gevent.spawn(be_busy)
    assert kept.recorder.flush(Deadline.after_s(60.0))
    hog.kill()
    kept.recorder.close()
    # 100 * (300 + 800 * 4): units of work a record, and an event of a known form
    assert turns < 350_000 // WORK_PER_SLICE
