"""One row per request sent: what the load room writes and the analysis reads.

All times are CLOCK_REALTIME ns since the epoch. What was not observed is None, never 0.
Definitions of TTFT, ITL, TPOT: `loadstair.analysis.step.latency` and docs/glossary.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended; a closed set. Only OK enters latency statistics, all the others enter the error rate,
    except KILLED: censored by us when the load was stopped, counted apart."""

    OK = "ok"
    HTTP_ERROR = "http_error"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    """The connection broke before the response was complete (reset, closed inside the body)."""
    TRUNCATED = "truncated"
    """The stream ended in order, without a finish_reason or `[DONE]`."""
    STREAM_ERROR = "stream_error"
    """An `error` object inside a 200 stream."""
    MALFORMED = "malformed"
    """A 200 that is no event stream (HTML, say), or events that are not what OpenAI's API sends."""
    KILLED = "killed"


class Phase(StrEnum):
    """The phase a request was *dispatched* in. Latency belongs to HOLD."""

    WARMUP = "warmup"
    HOLD = "hold"
    TAIL = "tail"


class StampClock(StrEnum):
    KERNEL = "kernel"
    READ = "read"
    """The time user space read the bytes: the kernel gave no receive stamps. Late when the worker is busy."""
    SIMULATED = "simulated"
    """A forecast's: nobody received anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSample:
    request_id: str
    """Sent as X-Request-Id: the key of the simulated engine's ledger."""
    visit: int
    topology: str
    repeat: int
    step: int
    load: float
    phase: Phase
    worker: str
    index: int
    due_ns: int | None
    """When the schedule wanted it sent (open loop); None in a closed loop."""
    dispatch_ns: int
    """When the user began the request: before connecting."""
    sent_ns: int | None
    """At the first send system call; None if it never got that far."""
    dns_ns: int | None
    """How long its name's addresses were waited for; None where they were known."""
    connect_ns: int | None
    """How long TCP took to be set up; None on a reused connection. (Without `dns_ns` and `tls_ns`, in older files, it
    holds all three.)"""
    tls_ns: int | None
    """How long the TLS handshake took; None on a reused connection, and without TLS."""
    headers_ns: int | None
    first_token_ns: int | None
    last_token_ns: int | None
    end_ns: int
    arrivals: Sequence[int]
    """One stamp for each token-carrying chunk, in order."""
    chunk_tokens: Sequence[int] | None
    """Tokens in each chunk of `arrivals` where known (usage in every chunk); None: one each, as far as one can see."""
    output_tokens: int | None
    """From `usage`; None if the server never said."""
    input_tokens: int | None
    cached_input_tokens: int | None
    """Of `input_tokens`, those that the server says it had in its prefix cache; None if it says nothing of it."""
    output_tokens_asked: int
    input_tokens_asked: int
    outcome: Outcome
    status: int | None
    error: str | None
    """One line, bounded; no prompt or response text."""
    finish_reason: str | None
    upstream: str | None
    """Who served it, as the balancer's X-Upstream-Addr says."""
    read_lag_ns: int | None
    """The longest that one of its reads came after the kernel's stamp; None without kernel stamps."""
    bunched: int
    """Token-carrying chunks that share a stamp with an earlier one and so have no arrival time of their own."""
    bunched_late: int
    """Those of `bunched` that came in a late read, which can have merged them: something in it may have waited for more
    than 0.5 ms or a tenth of the request's median gap, whichever is more. An upper bound: see `late_reads`."""
    late_reads: int
    """Reads that brought tokens and were late in this sense. A server that merges tokens does so in reads in time as
    well: from those the analysis learns how many of `bunched_late` to expect from the server."""
    clock: StampClock
    clock_step: bool
    """CLOCK_REALTIME was stepped between dispatch and end."""


SAMPLE_FIELDS = tuple(field.name for field in fields(RequestSample))
