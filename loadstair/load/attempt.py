"""One request from its dispatch to its record."""

from dataclasses import dataclass

from loadstair.clock import now_ns, realtime_minus_monotonic_ns
from loadstair.load.client import Failure
from loadstair.load.exchange import Exchange
from loadstair.load.tag import Tag
from loadstair.load.timeline import NO_STREAM, StreamParser, Timeline
from loadstair.plain import one_line
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import Outcome, RequestSample, StampClock
from loadstair.units import NS_PER_MS

CLOCK_STEP_NS_MIN = 5 * NS_PER_MS
"""Slewing, as NTP does it, moves both clocks alike: only a step changes their offset. The rest is reading error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """A request that was begun. What became of it is in `exchange`. Equal only to itself: a key for the books."""

    name: str
    """How Locust's tables call it."""
    tag: Tag
    index: int
    spec: RequestSpec
    prompt_words: int | None
    """None for a prompt that is not of our making: nothing can be learned from its length."""
    exchange: Exchange
    due_ns: int | None
    dispatch_ns: int
    clock_offset_ns: int
    """CLOCK_REALTIME minus CLOCK_MONOTONIC at dispatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that is over, not yet parsed."""

    attempt: Attempt
    failure: Failure | None
    end_ns: int
    clock_step: bool


def ended(attempt: Attempt, failure: Failure | None) -> Ended:
    """To be called at the very end of the request: it asks the clock."""
    moved_ns = abs(realtime_minus_monotonic_ns() - attempt.clock_offset_ns)
    return Ended(attempt=attempt, failure=failure, end_ns=now_ns(), clock_step=moved_ns > CLOCK_STEP_NS_MIN)


def stream_parser(exchange: Exchange) -> StreamParser | None:
    """None where there is no stream to parse: no response, or one that is not a 200."""
    if exchange.status != 200:
        return None
    return StreamParser(exchange)


def end_ns(over: Ended) -> int:
    """The stamp of the last arrival of a complete response; otherwise when the request was given up."""
    exchange = over.attempt.exchange
    if over.failure is not None or not exchange.stamps_ns:
        return over.end_ns
    return exchange.stamps_ns[-1]


def sample(
    over: Ended, timeline: Timeline | None, *, visit: int, topology: str, repeat: int, worker: str
) -> RequestSample:
    attempt, exchange = over.attempt, over.attempt.exchange
    outcome, error = _outcome(over, timeline)
    told = timeline or NO_STREAM
    arrivals = told.arrivals
    return RequestSample(
        request_id=exchange.request_id,
        visit=visit,
        topology=topology,
        repeat=repeat,
        step=attempt.tag.step,
        load=attempt.tag.load,
        phase=attempt.tag.phase,
        worker=worker,
        index=attempt.index,
        due_ns=attempt.due_ns,
        dispatch_ns=attempt.dispatch_ns,
        sent_ns=exchange.sent_ns,
        dns_ns=exchange.dns_ns,
        connect_ns=exchange.connect_ns,
        tls_ns=exchange.tls_ns,
        headers_ns=exchange.headers_ns,
        first_token_ns=arrivals[0] if arrivals else None,
        last_token_ns=arrivals[-1] if arrivals else None,
        end_ns=end_ns(over),
        arrivals=arrivals,
        chunk_tokens=told.chunk_tokens,
        output_tokens=told.output_tokens,
        input_tokens=told.input_tokens,
        cached_input_tokens=told.cached_input_tokens,
        output_tokens_asked=attempt.spec.output_tokens,
        input_tokens_asked=attempt.spec.input_tokens,
        outcome=outcome,
        status=exchange.status,
        error=error,
        finish_reason=told.finish_reason,
        upstream=exchange.upstream,
        read_lag_ns=exchange.read_lag_ns(),
        bunched=told.bunching.bunched,
        bunched_late=told.bunching.late,
        late_reads=told.bunching.late_reads,
        clock=StampClock.KERNEL if exchange.stamps_ns and exchange.kernel_stamped else StampClock.READ,
        clock_step=over.clock_step,
    )


def _outcome(over: Ended, timeline: Timeline | None) -> tuple[Outcome, str | None]:
    """The transport's failure comes first: a stream that was cut is not blamed for having no end."""
    if over.failure is not None:
        return over.failure.outcome, over.failure.error
    if timeline is None:
        return Outcome.MALFORMED, f"status {over.attempt.exchange.status} where 200 was expected"
    if timeline.outcome is Outcome.MALFORMED and timeline.error == "no event stream":
        kind = (over.attempt.exchange.content_type or "no content type").split(";")[0]
        return Outcome.MALFORMED, one_line(f"no event stream ({kind})")
    return timeline.outcome, timeline.error
