"""The raw records as lines of CSV, made where they were measured: the master only keeps them."""

import csv
import io
from collections.abc import Callable
from typing import Any, Final

from loadstair.samples.latency import e2e_ns, tokens_arrived, tpot_ns, ttft_ns
from loadstair.samples.record import RequestSample
from loadstair.units import NS_PER_MS

_COLUMNS: Final[dict[str, Callable[[RequestSample], Any]]] = {
    "request_id": lambda record: record.request_id,
    "outcome": lambda record: record.outcome,
    "status": lambda record: record.status,
    "error": lambda record: record.error,
    "ttft_ms": lambda record: _ms(ttft_ns(record)),
    "tpot_ms": lambda record: _ms(tpot_ns(record)),
    "e2e_ms": lambda record: _ms(e2e_ns(record)),
    "input_tokens": lambda record: record.input_tokens,
    "cached_input_tokens": lambda record: record.cached_input_tokens,
    "output_tokens": lambda record: record.output_tokens,
    "tokens_arrived": tokens_arrived,
    "input_tokens_asked": lambda record: record.input_tokens_asked,
    "output_tokens_asked": lambda record: record.output_tokens_asked,
    "finish_reason": lambda record: record.finish_reason,
    "upstream": lambda record: record.upstream,
    "dispatch_ns": lambda record: record.dispatch_ns,
    "sent_ns": lambda record: record.sent_ns,
    "dns_ns": lambda record: record.dns_ns,
    "connect_ns": lambda record: record.connect_ns,
    "tls_ns": lambda record: record.tls_ns,
    "headers_ns": lambda record: record.headers_ns,
    "first_token_ns": lambda record: record.first_token_ns,
    "last_token_ns": lambda record: record.last_token_ns,
    "end_ns": lambda record: record.end_ns,
    "read_lag_ns": lambda record: record.read_lag_ns,
    "bunched": lambda record: record.bunched,
    "bunched_late": lambda record: record.bunched_late,
    "late_reads": lambda record: record.late_reads,
    "clock": lambda record: record.clock,
    "clock_step": lambda record: int(record.clock_step),
    "arrivals_since_sent_ns": lambda record: " ".join(
        [str(arrival - (record.sent_ns or 0)) for arrival in record.arrivals]
    ),
    "chunk_tokens": lambda record: None if record.chunk_tokens is None else " ".join(map(str, record.chunk_tokens)),
}
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t")


def header() -> str:
    return _line(["name", "worker", *_COLUMNS])


def row(record: RequestSample, *, name: str, worker: str) -> str:
    """One line. Times are CLOCK_REALTIME ns; what was not observed is empty."""
    return _line([name, worker, *[value(record) for value in _COLUMNS.values()]])


def _line(cells: list[Any]) -> str:
    """Text that a server chose can begin like a formula: an apostrophe keeps a spreadsheet from computing it.

    A cell has no line ends, so that lines can be counted.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()


def _cell(text: str) -> str:
    line = text.replace("\r", " ").replace("\n", " ")
    return f"'{line}" if line.startswith(_FORMULA_STARTS) else line


def _ms(duration_ns: float | None) -> str | None:
    return None if duration_ns is None else f"{duration_ns / NS_PER_MS:.6f}"
