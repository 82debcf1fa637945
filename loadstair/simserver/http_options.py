"""The part of the command line that is about HTTP: which server is played, how streams are written, what goes wrong."""

import argparse
from dataclasses import dataclass
from typing import get_args

from loadstair.errors import UsageError
from loadstair.simserver.chunks import Dialect
from loadstair.simserver.faults import FAULT_SYNTAX, Fault, parse_faults


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    dialect: Dialect = "vllm"
    stream_interval_tokens: int = 1
    """In a chunk, but for the first, which has one, and the last."""
    keep_alive_s: float = 0.0
    """How long a stream may be silent before a comment is sent; 0: for ever."""
    shutdown_timeout_s: float = 0.0
    """How long what is in flight may take to end after a signal; 0: it is cut."""
    faults: tuple[Fault, ...] = ()


def add_http_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dialect", choices=get_args(Dialect), default="vllm", help="whose metrics page, chunks and errors"
    )
    parser.add_argument("--stream-interval", type=int, default=1, help="tokens in a chunk of a stream, after the first")
    parser.add_argument(
        "--sse-keep-alive-interval", type=float, default=0.0, help="seconds of silence before a comment; 0: none"
    )
    parser.add_argument(
        "--shutdown-timeout", type=float, default=0.0, help="seconds that requests may take to end after SIGTERM"
    )
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT[,FAULT]", help=FAULT_SYNTAX)


def http_options(given: argparse.Namespace) -> HttpOptions:
    """Raises UsageError."""
    if given.stream_interval < 1:
        raise UsageError(f"simserver: --stream-interval {given.stream_interval}: must be at least 1 token")
    for option, value in (
        ("--sse-keep-alive-interval", given.sse_keep_alive_interval),
        ("--shutdown-timeout", given.shutdown_timeout),
    ):
        if not 0 <= value < float("inf"):
            raise UsageError(f"simserver: {option} {value:g}: must be 0 (none) or above")
    try:
        faults = tuple(fault for text in given.fault for fault in parse_faults(text))
    except ValueError as error:
        raise UsageError(f"simserver: --fault {error}") from error
    return HttpOptions(
        dialect=given.dialect,
        stream_interval_tokens=given.stream_interval,
        keep_alive_s=given.sse_keep_alive_interval,
        shutdown_timeout_s=given.shutdown_timeout,
        faults=faults,
    )
