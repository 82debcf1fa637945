"""Latencies of one record. The same definitions as those of whole tables in `loadstair.analysis.step.latency`."""

from itertools import pairwise

from loadstair.samples.record import RequestSample


def ttft_ns(record: RequestSample) -> int | None:
    """Time to first token: the first chunk that carried text, minus the first send system call. None without text."""
    if record.first_token_ns is None or record.sent_ns is None:
        return None
    return record.first_token_ns - record.sent_ns


def e2e_ns(record: RequestSample) -> int | None:
    """First send system call to the last token; None without one."""
    if record.last_token_ns is None or record.sent_ns is None:
        return None
    return record.last_token_ns - record.sent_ns


def tpot_ns(record: RequestSample) -> float | None:
    """(last token - first token) / (output tokens - 1); None below two tokens, or where the server did not count."""
    if record.first_token_ns is None or record.last_token_ns is None or (record.output_tokens or 0) < 2:
        return None
    assert record.output_tokens is not None
    return (record.last_token_ns - record.first_token_ns) / (record.output_tokens - 1)


def itl_ns(record: RequestSample) -> list[int]:
    """Every gap between two arrivals that carried text; 0 between tokens that share a stamp."""
    return [late - early for early, late in pairwise(record.arrivals)]


def tokens_arrived(record: RequestSample) -> int:
    """As its chunks say, where any does; else what `usage` counts; else one for each chunk. 0 where no text came."""
    if not record.arrivals:
        return 0
    return sum(record.chunk_tokens or ()) or record.output_tokens or len(record.arrivals)
