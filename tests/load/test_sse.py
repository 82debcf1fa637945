from hypothesis import example, given
from hypothesis import strategies as st

from loadstair.load.exchange import Exchange
from loadstair.load.sse import DROP_BYTES_MIN, EVENT_BYTES_MAX, EventReader
from tests.load.reference_sse import Event, drain, reference_events
from tests.load.streams import UNTIMED, arrive, split


def read_all(*reads: bytes, work_max: int = 1000) -> tuple[list[Event], EventReader]:
    """Read as far as possible after each read."""
    exchange = Exchange("r")
    reader, events = EventReader(exchange), []
    for read in reads:
        arrive(exchange, read)
        events += drain(reader, work_max, complete=False)
    return events + drain(reader, work_max, complete=True), reader


EVENTS = [b"data: {}\n\n", b"data: {}\r\n\r\n", b"data: {}\r\r"]
PARTS = [b"data: ", b"data", b":", b"event: error", b"event:", b"id: 1", b"error: x", b" ", b"\xef\xbb\xbf", b"x"]
LONG = b": " + b"-" * DROP_BYTES_MIN + b"\n"
PIECES = st.sampled_from([*EVENTS, *PARTS, b"\n", b"\r", b"\r\n", LONG])
STREAMS = st.lists(PIECES, max_size=20).map(b"".join) | st.binary(max_size=60)


@UNTIMED
@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 30))
@example(b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\n\r\n", [19], 1)
@example(LONG + b"\xef\xbb\xbfdata: {}\n\n", [len(LONG)], 1)  # a byte order mark, but not at the start of the answer
@example(b"event: error\ndata: {}\n\ndata: {}\n\n", [], 1)
def test_any_stream_however_it_arrives_gives_the_events_of_the_standard(
    body: bytes, cuts: list[int], work_max: int
) -> None:
    reads = split(body, [cut % (len(body) + 1) for cut in cuts])
    expected = reference_events(body)
    assert read_all(*reads, work_max=work_max)[0] == expected
    assert read_all(body)[0] == expected


@UNTIMED
@given(STREAMS.filter(lambda body: not body.startswith((b"\xef\xbb\xbf", b"\n"))))
def test_the_two_ways_to_find_an_event_agree(body: bytes) -> None:
    prefix = b":\r"  # a line end that is a carriage return alone: from there on, every line is taken by itself
    shifted = [Event(event.kind, event.data, event.end - len(prefix)) for event in read_all(prefix + body)[0]]
    assert read_all(body)[0] == shifted


def test_what_was_read_is_dropped_while_the_stream_runs() -> None:
    exchange = Exchange("r")
    reader = EventReader(exchange)
    line = b"data: " + b"x" * 200 + b"\n\n"
    kept = []
    for _ in range(100):
        arrive(exchange, line)
        assert [event.end for event in drain(reader, 1000, complete=False)] == [exchange.body_bytes]
        kept.append(len(exchange.body))
    assert max(kept) < DROP_BYTES_MIN
    assert exchange.body_bytes == 100 * len(line)


def test_a_line_that_never_ends_is_given_up_before_it_has_all_come() -> None:
    _, reader = read_all(b"data: ", b"x" * EVENT_BYTES_MAX, b"x\n\n")
    assert reader.too_long == f"a line longer than {EVENT_BYTES_MAX} bytes"
    exchange = Exchange("r")
    unfinished = EventReader(exchange)
    arrive(exchange, b":x" + b"x" * EVENT_BYTES_MAX)
    assert drain(unfinished, 1000, complete=False) == []
    assert unfinished.too_long is not None


def test_a_whole_event_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = b"data: " + b"x" * (EVENT_BYTES_MAX - 6)
    events, reader = read_all(longest + b"\n\n")
    assert (len(events), reader.too_long) == (1, None)
    events, reader = read_all(longest + b"\r", b"\n\r\n")
    assert (len(events), reader.too_long) == (1, None)
    events, reader = read_all(longest + b"x\n\n")
    assert (len(events), reader.too_long) == (0, f"a line longer than {EVENT_BYTES_MAX} bytes")


def test_an_event_of_many_lines_is_given_up_at_its_limit_too() -> None:
    line = b"data:" + b"x" * 1023 + b"\n"  # 1024 bytes with the newline that joins it to the next
    events, reader = read_all(line * (EVENT_BYTES_MAX // 1024) + b"\n")
    assert (len(events), reader.too_long) == (1, None)
    events, reader = read_all(line * (EVENT_BYTES_MAX // 1024 + 1) + b"\n")
    assert (len(events), reader.too_long) == (0, f"an event longer than {EVENT_BYTES_MAX} bytes")


def slices(body: bytes, work_max: int) -> int:
    exchange = Exchange("r")
    arrive(exchange, body)
    reader, count = EventReader(exchange), 0
    while not reader.ended:
        list(reader.events(reader.work + work_max, complete=True))
        count += 1
    return count


def test_lines_without_an_event_end_a_slice_too() -> None:
    assert slices(b":\n" * 10_000, 1000) >= 10  # 10000 lines / 1000


def test_events_end_a_slice() -> None:
    assert slices(b"data: {}\n\n" * 1000, 1000) >= 5  # 1000 events of 5 at least / 1000


def test_long_lines_end_a_slice_sooner() -> None:
    assert slices((b":" + b"x" * 6399 + b"\n") * 100, 1000) >= 10  # 100 lines * 6400 bytes / 64 / 1000
