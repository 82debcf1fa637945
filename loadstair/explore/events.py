"""Events of our own, beside Locust's: any locustfile may listen to them.

    @events.stream_complete.add_listener
    def on_complete(name, outcome, ttft_ms, **_): ...

They are fired in the process where the user runs, once the response is parsed, which is some time after its last
byte. The times are those of the arrivals themselves: the kernel's receive stamps (CLOCK_REALTIME ns since the epoch),
or, where it has none (TLS), those of the reads; durations follow `docs/glossary.md`. What was not observed is None.
Without a listener an event costs nothing. A listener must be quick: it runs in the process that measures.
"""

from typing import Any

from locust.event import EventHook, Events

from loadstair.samples.latency import e2e_ns, tokens_arrived, tpot_ns, ttft_ns
from loadstair.samples.record import RequestSample
from loadstair.units import ms_from_ns


class StreamEvent(EventHook):
    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._handlers)


class FirstTokenEvent(StreamEvent):
    """`events.first_token`: once for each stream that brought text, however it ended.

    Arguments: `name` (as in Locust's tables), `request_id` (sent as X-Request-Id), `sent_ns`, `first_token_ns`,
    `ttft_ms`, `input_tokens` (as the server counted).
    """


class TokensEvent(StreamEvent):
    """`events.tokens`: once for each stream that brought text, with all its arrivals.

    Arguments: `name`, `request_id`, `sent_ns`, `arrivals_ns` (list: one stamp for each chunk that carried text),
    `chunk_tokens` (list: tokens in each of these, where the server says so in every chunk, else None: as a rule one
    each), `tokens` (in all).
    """


class StreamCompleteEvent(StreamEvent):
    """`events.stream_complete`: once for each request, however it ended; killed ones too.

    Arguments: `name`, `request_id`, `outcome` (ok, http_error, refused, timeout, disconnected, truncated,
    stream_error, malformed, killed), `error` (one line, None if ok), `status`, `dispatch_ns` (when the user began it),
    `sent_ns`, `first_token_ns`, `last_token_ns`, `end_ns`, `ttft_ms`, `tpot_ms`, `e2e_ms`, `input_tokens`,
    `output_tokens` (both as the server counted), `tokens` (that arrived), `finish_reason`, `upstream` (who answered,
    as the balancer says in X-Upstream-Addr).
    """


def add_events(events: Events) -> None:
    """Makes `events.first_token`, `events.tokens` and `events.stream_complete`. A second call changes nothing."""
    if not hasattr(events, "stream_complete"):
        kinds = {"first_token": FirstTokenEvent, "tokens": TokensEvent, "stream_complete": StreamCompleteEvent}
        vars(events).update({name: kind() for name, kind in kinds.items()})  # type: ignore[no-untyped-call]


def fire(events: Events, record: RequestSample, name: str) -> None:
    hooks = vars(events)
    if record.arrivals and hooks["first_token"].heard:
        hooks["first_token"].fire(
            name=name,
            request_id=record.request_id,
            sent_ns=record.sent_ns,
            first_token_ns=record.first_token_ns,
            ttft_ms=ms_from_ns(ttft_ns(record)),
            input_tokens=record.input_tokens,
        )
    if record.arrivals and hooks["tokens"].heard:
        hooks["tokens"].fire(
            name=name,
            request_id=record.request_id,
            sent_ns=record.sent_ns,
            arrivals_ns=list(record.arrivals),
            chunk_tokens=record.chunk_tokens,
            tokens=tokens_arrived(record),
        )
    if hooks["stream_complete"].heard:
        hooks["stream_complete"].fire(**_complete(record, name))


def _complete(record: RequestSample, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "request_id": record.request_id,
        "outcome": str(record.outcome),
        "error": record.error,
        "status": record.status,
        "dispatch_ns": record.dispatch_ns,
        "sent_ns": record.sent_ns,
        "first_token_ns": record.first_token_ns,
        "last_token_ns": record.last_token_ns,
        "end_ns": record.end_ns,
        "ttft_ms": ms_from_ns(ttft_ns(record)),
        "tpot_ms": ms_from_ns(tpot_ns(record)),
        "e2e_ms": ms_from_ns(e2e_ns(record)),
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "tokens": tokens_arrived(record),
        "finish_reason": record.finish_reason,
        "upstream": record.upstream,
    }
