"""The load in one Locust process: runs its users' requests and records them."""

import gc
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import gevent
from locust.env import Environment

from loadstair.clock import now_ns, realtime_minus_monotonic_ns
from loadstair.load.attempt import Attempt, ended
from loadstair.load.client import Failure, LoadClient, request_body
from loadstair.load.config import LoadConfig
from loadstair.load.dispatcher import Dispatcher
from loadstair.load.exchange import Exchange, body_bytes_max
from loadstair.load.gate import Gate
from loadstair.load.prompts import PromptMaker, shipped_words
from loadstair.load.recorder import Recorder, SendBatch
from loadstair.load.tag import Tag
from loadstair.plan.arrivals import Due
from loadstair.plan.model import Lengths
from loadstair.plan.workload import RequestSpec, request_spec
from loadstair.samples.record import Outcome, Phase, RequestSample
from loadstair.units import NS_PER_MS

logger = logging.getLogger(__name__)

AFTER_REFUSAL_S: Final = 0.1
"""A user's pause when its request never left: without one, users of a dead server would only fill the records."""
LENGTH_KEYS: Final = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequest:
    """What a user class has to say about its requests."""

    name: str
    messages: Callable[[RequestSpec], list[dict[str, Any]] | None]
    """None: a prompt of the wanted length, of our making."""
    body: Callable[[dict[str, Any]], Mapping[str, Any]]
    """Gets the body as it would be sent, returns the one to send."""


class WorkerLoad:
    """`send_batch` is the recorder's, `on_record` gets each of them as it is; None where nobody wants them."""

    def __init__(
        self,
        config: LoadConfig,
        environment: Environment,
        *,
        nonce: bytes,
        gate: Gate,
        send_batch: SendBatch | None = None,
        on_record: Callable[[RequestSample, Attempt], None] | None = None,
    ) -> None:
        """`nonce` makes the request ids unlike those of any other visit."""
        self.gate = gate
        self.dispatcher: Dispatcher | None = None
        """Of an open loop; its users then only lend it a greenlet."""
        self._config = config
        self._workload = config.workload
        self._environment = environment
        self._nonce = nonce
        self._on_record = on_record
        self._client = LoadClient(config)
        self._prompts = PromptMaker(shipped_words(), words_per_token=config.words_per_token, salt=config.workload.salt)
        self.recorder = Recorder(
            visit=config.visit,
            topology=config.topology,
            repeat=config.repeat,
            send_batch=send_batch,
            on_sample=self._on_sample,
        )
        spare_the_collector()

    def run_request(self, ordinal: int, own: OwnRequest | None = None) -> None:
        """One request of a user, from dispatch to the end of its response."""
        gate = self.gate
        tag = gate.tag
        gate.dispatched.add(ordinal)
        index = gate.take_index()
        attempt = self._run(tag, index, self._spec(tag, index), own)
        if attempt.exchange.sent_ns is None:
            gevent.sleep(AFTER_REFUSAL_S)

    def run_due(self, due: Due, tag: Tag, due_ns: int) -> None:
        """One request of an open loop's schedule, likewise."""
        spec = self._spec(tag, due.place)
        if due.input_tokens is not None:
            spec = replace(spec, input_tokens=max(due.input_tokens, spec.prefix_tokens + 1))
        if due.output_tokens is not None:
            spec = replace(spec, output_tokens=due.output_tokens)
        self._run(tag, due.place, spec, due_ns=due_ns)

    def _run(
        self, tag: Tag, index: int, spec: RequestSpec, own: OwnRequest | None = None, *, due_ns: int | None = None
    ) -> Attempt:
        """Killed on the way, it is recorded as that."""
        attempt, body = self._prepare(tag, index, spec, own, due_ns)
        self.recorder.start(attempt)
        failure: Failure | None = Failure(Outcome.KILLED, "stopped while under way")
        try:
            failure = self._client.send(attempt.exchange, body)
        finally:
            self.recorder.end(ended(attempt, failure))
        return attempt

    def lengths_of_step(self, input_tokens: Lengths | None, output_tokens: Lengths | None) -> None:
        """Of the requests from now on; None: as the workload has them."""
        given = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        changed = {side: lengths for side, lengths in given.items() if lengths is not None}
        self._workload = self._config.workload.model_copy(update=changed)

    def _spec(self, tag: Tag, index: int) -> RequestSpec:
        config = self._config
        return request_spec(self._workload, seed=config.seed, repeat=config.repeat, step=tag.step, index=index)

    def _prepare(
        self, tag: Tag, index: int, spec: RequestSpec, own: OwnRequest | None, due_ns: int | None
    ) -> tuple[Attempt, Mapping[str, Any]]:
        config = self._config
        request_id = self._request_id(tag.step, index)
        prompt = self._prompts.prompt(spec, request_id)
        body: Mapping[str, Any] = request_body(
            config.workload, system=prompt.prefix, prompt=prompt.text, output_tokens=spec.output_tokens
        )
        prompt_words: int | None = prompt.words
        if own is not None:
            messages = own.messages(spec)
            if messages is not None:
                prompt_words = None
            body = _own_body(own, messages, body)
            spec = replace(spec, output_tokens=_length_asked(body, spec.output_tokens))
        attempt = Attempt(
            name=str(config.workload.endpoint) if own is None else own.name,
            tag=tag,
            index=index,
            spec=spec,
            prompt_words=prompt_words,
            exchange=Exchange(request_id, body_bytes_max=body_bytes_max(spec.output_tokens)),
            due_ns=due_ns,
            dispatch_ns=now_ns(),
            clock_offset_ns=realtime_minus_monotonic_ns(),
        )
        return attempt, body

    def _on_sample(self, record: RequestSample, attempt: Attempt) -> None:
        if self._on_record is not None:
            self._on_record(record, attempt)
        words = attempt.prompt_words
        if self._config.calibrate_words and record.phase is Phase.WARMUP and record.input_tokens and words is not None:
            self._prompts.correct(words, record.input_tokens)
        if record.outcome is Outcome.KILLED:
            return
        failed = record.outcome is not Outcome.OK
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="SSE",
            name=attempt.name,
            response_time=(record.end_ns - (record.sent_ns or record.dispatch_ns)) / NS_PER_MS,
            response_length=attempt.exchange.body_bytes,
            exception=RequestFailedError(f"{record.outcome}: {record.error}") if failed else None,
            context={},
        )

    def _request_id(self, step: int, index: int) -> str:
        message = f"{self._config.visit}/{step}/{index}".encode()
        digits = hashlib.blake2b(message, digest_size=16, key=self._nonce).hexdigest()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def close(self) -> None:
        self.recorder.close()
        self._client.close()


def _own_body(own: OwnRequest, messages: list[dict[str, Any]] | None, planned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Streamed whatever it says: there is nothing to measure in an answer that comes in one piece."""
    body = dict(planned)
    if messages is not None:
        if "messages" not in body:
            raise ValueError("messages() is for the endpoint chat: for completions change the prompt in body()")
        body["messages"] = messages
    return {**own.body(body), "stream": True}


def _length_asked(body: Mapping[str, Any], planned: int) -> int:
    asked = next((body[key] for key in LENGTH_KEYS if key in body), None)
    return asked if isinstance(asked, int) and asked > 0 else planned


def spare_the_collector() -> None:
    """What is loaded by now stays until the end: a collection that goes over all of it stops every read for 60 ms."""
    gc.collect()
    gc.freeze()


class RequestFailedError(Exception):
    """How a failed request appears in Locust's own tables."""
