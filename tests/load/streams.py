"""Streams as the parser finds them in an exchange: whole, or growing from one call to the next."""

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from hypothesis import HealthCheck, settings

from loadstair.load.exchange import Exchange
from loadstair.load.timeline import StreamParser, Timeline

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that is busy with something else breaks no property."""
MS = 1_000_000
DONE = b"data: [DONE]\n\n"
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def token(text: str = "x", **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def finish(reason: str = "length", **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [body[start:end] for start, end in pairwise([0, *sorted(cuts), len(body)]) if end > start]


def arrive(exchange: Exchange, read: bytes, *, lag_ns: int = 0, kernel: bool = True) -> None:
    """Read i is stamped (i + 1) * 10 ms by the kernel and read `lag_ns` later."""
    stamp = (len(exchange.end_offset) + 1) * 10 * MS
    exchange.body += read
    exchange.note_arrival(stamp if kernel else 0, stamp + lag_ns, 0)


def timeline(*reads: bytes, lag_ns: int = 0, kernel: bool = True, work_max: int = 100) -> Timeline:
    """Of a stream that is parsed when all of it is there."""
    exchange = Exchange("r")
    for read in reads:
        arrive(exchange, read, lag_ns=lag_ns, kernel=kernel)
    parser = StreamParser(exchange)
    while not parser.advance(work_max):
        pass
    return parser.timeline()


def grown(*reads: bytes, kernel: bool = True, work_max: int = 100) -> tuple[Timeline, Sequence[int]]:
    """The same, parsed after every read; also how many tokens were known then."""
    exchange = Exchange("r")
    parser = StreamParser(exchange)
    known = []
    for read in reads:
        arrive(exchange, read, kernel=kernel)
        while not parser.advance(work_max, complete=False):
            pass
        known.append(parser.tokens)
    while not parser.advance(work_max):
        pass
    return parser.timeline(), known


def read_ends(reads: Sequence[bytes]) -> list[int]:
    return list(accumulate(map(len, reads)))
