"""What must hold of the stream parser whatever a server sends, however it arrives.

An input is a plan for the arrivals and the stream: the number of cuts, two bytes for the place of each, one for the
size of the slices, then what the server sends. From 128 on, the number says to send a long comment before it, so that
the parser drops something while the stream runs.
"""

from collections.abc import Sequence
from itertools import pairwise

from loadstair.load.chunks import TOKENS_MAX
from loadstair.load.exchange import Exchange
from loadstair.load.sse import BYTES_PER_WORK, DROP_BYTES_MIN, EVENT_BYTES_MAX, EventReader
from loadstair.load.timeline import LENIENT_BYTES_PER_WORK, StreamParser, Timeline
from loadstair.plain import CHARACTERS_MAX
from loadstair.samples.record import Outcome
from tests.load.reference_sse import drain, reference_events
from tests.load.streams import arrive, split

CUTS_MAX = 16
LONG = 128
LONG_COMMENT = b":" + b"-" * DROP_BYTES_MIN + b"\n"
WORK_PER_BYTE_MAX = 8  # "data\n\n": 6 for each line, 6 for the event, 20 for what is no chunk: 38 for 6 bytes
WORK_BEYOND_MAX = 64  # the event a slice ends with
BYTES_KEPT_MAX = DROP_BYTES_MIN + 2 * EVENT_BYTES_MAX


def encode(stream: bytes, cuts: Sequence[int] = (), work_max: int = 100, *, long: bool = False) -> bytes:
    places = b"".join(cut.to_bytes(2, "little") for cut in cuts)
    return bytes([len(cuts) + (LONG if long else 0)]) + places + bytes([work_max]) + stream


def decode(data: bytes) -> tuple[list[bytes], int]:
    """The reads, and how much work a slice may do."""
    count = data[0] % LONG % (CUTS_MAX + 1) if data else 0
    places, rest = data[1 : 1 + 2 * count], data[1 + 2 * count :]
    work_max, stream = 1 + rest[0] if rest else 1, rest[1:]
    cuts = [int.from_bytes(places[at : at + 2], "little") % (len(stream) + 1) for at in range(0, len(places), 2)]
    if data[:1] >= bytes([LONG]):
        return [LONG_COMMENT, *split(stream, cuts)], work_max
    return split(stream, cuts), work_max


def check(data: bytes) -> Timeline:
    reads, work_max = decode(data)
    _check_events(reads, work_max)
    whole = _parse(reads, work_max, growing=False)
    assert whole == _parse(reads, work_max, growing=True)
    assert whole.outcome in (Outcome.OK, Outcome.TRUNCATED, Outcome.STREAM_ERROR, Outcome.MALFORMED)
    assert (whole.error is None) == (whole.outcome is Outcome.OK)
    for text in (whole.error, whole.finish_reason):
        assert text is None or (len(text) <= CHARACTERS_MAX and len(text.splitlines()) == 1 and text.encode("utf-8"))
    stamps = list(whole.arrivals)
    assert stamps == sorted(stamps)
    assert set(stamps) <= {(index + 1) * 10_000_000 for index in range(len(reads))}
    assert whole.bunching.bunched == len(stamps) - len(set(stamps))
    assert whole.chunk_tokens is None or (len(whole.chunk_tokens) == len(stamps) and min(whole.chunk_tokens) >= 0)
    for count in (whole.output_tokens, whole.input_tokens, whole.cached_input_tokens):
        assert count is None or 0 <= count <= TOKENS_MAX
    return whole


def _check_events(reads: list[bytes], work_max: int) -> None:
    exchange = Exchange("r")
    reader, events = EventReader(exchange), []
    for read in reads:
        arrive(exchange, read)
        events += drain(reader, work_max, complete=False)
    assert events + drain(reader, work_max, complete=True) == reference_events(b"".join(reads))


def _parse(reads: list[bytes], work_max: int, *, growing: bool) -> Timeline:
    exchange = Exchange("r")
    parser = StreamParser(exchange)
    for read in reads:
        arrive(exchange, read)
        if growing:
            _advance(parser, exchange, work_max, complete=False)
            assert len(exchange.body) <= BYTES_KEPT_MAX
    _advance(parser, exchange, work_max, complete=True)
    assert not exchange.body
    assert exchange.dropped == sum(map(len, reads))
    assert parser.work <= WORK_PER_BYTE_MAX * exchange.dropped + WORK_BEYOND_MAX
    return parser.timeline()


def _advance(parser: StreamParser, exchange: Exchange, work_max: int, *, complete: bool) -> None:
    """To the end of what is there, in slices none of which does more than it may, and one event."""
    length = exchange.body_bytes
    step_max = work_max + WORK_BEYOND_MAX + length // LENIENT_BYTES_PER_WORK + length // BYTES_PER_WORK
    finished, works = False, [parser.work]
    while not finished:
        finished = parser.advance(work_max, complete=complete)
        works.append(parser.work)
        assert finished or works[-1] > works[-2]
    assert all(after - before <= step_max for before, after in pairwise(works))
