"""The load on one Locust worker: runs its users' requests and obeys the master's commands."""

import hashlib
import logging
from typing import Any, Final

import gevent
from gevent.queue import Queue
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import Runner

from loadstair.clock import Deadline, now_ns, realtime_minus_monotonic_ns
from loadstair.load.attempt import Attempt, Tag, ended
from loadstair.load.client import Failure, LoadClient, request_body
from loadstair.load.config import LoadConfig
from loadstair.load.exchange import Exchange, body_bytes_max
from loadstair.load.gate import Gate
from loadstair.load.messages import ANSWER, BATCH, COMMAND, READY, Command
from loadstair.load.prompts import PromptMaker, shipped_words
from loadstair.load.recorder import Recorder
from loadstair.plan.workload import request_spec
from loadstair.samples.record import Outcome, Phase, RequestSample
from loadstair.units import NS_PER_MS

logger = logging.getLogger(__name__)

FLUSH_S: Final = 20.0
AFTER_REFUSAL_S: Final = 0.1
"""A user's pause when its request never left: without one, users of a dead server would only fill the records."""
SEND_TRIES: Final = 5
SEND_RETRY_S: Final = 1.0


class WorkerLoad:
    def __init__(
        self, config: LoadConfig, environment: Environment, runner: Runner, *, nonce: bytes, gate: Gate, reports: bool
    ) -> None:
        """`nonce` makes the request ids unlike those of any other visit; `reports`: a master wants the records."""
        self.gate = gate
        self._config = config
        self._environment = environment
        self._runner = runner
        self._nonce = nonce
        self._client = LoadClient(config)
        self._prompts = PromptMaker(shipped_words(), words_per_token=config.words_per_token, salt=config.workload.salt)
        self._outbox: Queue[tuple[str, dict[str, Any]]] = Queue()
        self._reports = reports
        self._recorder = Recorder(
            visit=config.visit,
            topology=config.topology,
            repeat=config.repeat,
            send_batch=self._send_batch,
            on_sample=self._on_sample,
        )
        self._sender = gevent.spawn(self._send_all) if reports else None

    def run_request(self, ordinal: int) -> None:
        """One request, from dispatch to the end of its response. Killed on the way, it is recorded as that."""
        gate, config = self.gate, self._config
        tag = gate.tag
        gate.dispatched.add(ordinal)
        index = gate.take_index()
        spec = request_spec(config.workload, seed=config.seed, repeat=config.repeat, step=tag.step, index=index)
        request_id = self._request_id(tag.step, index)
        prompt = self._prompts.prompt(spec, request_id)
        body = request_body(config.workload, system=prompt.prefix, prompt=prompt.text, output_tokens=spec.output_tokens)
        attempt = Attempt(
            tag=tag,
            index=index,
            spec=spec,
            prompt_words=prompt.words,
            exchange=Exchange(request_id, body_bytes_max=body_bytes_max(spec.output_tokens)),
            due_ns=None,
            dispatch_ns=now_ns(),
            clock_offset_ns=realtime_minus_monotonic_ns(),
        )
        self._recorder.start(attempt)
        failure: Failure | None = Failure(Outcome.KILLED, "stopped while under way")
        try:
            failure = self._client.send(attempt.exchange, body)
        finally:
            self._recorder.end(ended(attempt, failure))
        if attempt.exchange.sent_ns is None:
            gevent.sleep(AFTER_REFUSAL_S)

    def listen(self) -> None:
        """From now on obeys the master."""
        self._runner.register_message(COMMAND, self._obey, concurrent=True)
        self._outbox.put((READY, {}))

    def _obey(self, msg: Any, **_: Any) -> None:
        data = msg.data
        answer = self._carry_out(Command(data["kind"]), data)
        self._outbox.put((ANSWER, {"id": data["id"], **answer}))

    def _carry_out(self, command: Command, data: dict[str, Any]) -> dict[str, Any]:
        match command:
            case Command.STATUS:
                return self._status()
            case Command.STEP:
                return self._begin_step(data)
            case Command.PHASE:
                tag = self.gate.tag
                self.gate.tag = Tag(step=tag.step, load=tag.load, phase=Phase(data["phase"]))
                return {"since_ns": now_ns()}
            case Command.DRAIN:
                self.gate.park_all()
                return {"since_ns": now_ns()}
            case Command.FLUSH:
                return self._flush()
            case Command.STOP:
                self.gate.park_all()
                self._runner.user_greenlets.kill(timeout=FLUSH_S)
                return self._flush()

    def _status(self) -> dict[str, Any]:
        recorder = self._recorder
        return {
            "users": self.gate.active,
            "in_flight": recorder.in_flight(),
            "in_flight_hold": recorder.in_flight_hold(self.gate.tag.step),
            "started_users": len(self.gate.dispatched),
        }

    def _begin_step(self, data: dict[str, Any]) -> dict[str, Any]:
        rank = int(data["rank"])
        self._recorder.worker = f"worker-{rank}"
        self.gate.begin_step(
            Tag(step=data["step"], load=data["load"], phase=Phase.WARMUP),
            rank=rank,
            workers=data["workers"],
            active=data["active"],
            growth_s=data["growth_s"],
        )
        return {"since_ns": now_ns()}

    def _flush(self) -> dict[str, Any]:
        complete = self._recorder.flush(Deadline.after_s(FLUSH_S))
        return {"counters": self._recorder.counters(), "batches": self._recorder.batches, "complete": complete}

    def _send_batch(self, batch: bytes) -> None:
        if self._reports:
            counters = self._recorder.counters()
            self._outbox.put((BATCH, {"batches": self._recorder.batches, "counters": counters, "batch": batch}))

    def _send_all(self) -> None:
        """The one sender: while the master stalls, Locust's send blocks and then raises; nobody else may wait."""
        while True:
            kind, data = self._outbox.get()
            for _ in range(SEND_TRIES):
                try:
                    self._runner.send_message(kind, data)
                    break
                except RPCError as error:
                    logger.warning("sending to the master: %s", error)
                    gevent.sleep(SEND_RETRY_S)
            else:
                logger.error("a message was given up: the counters tell how many records are missing")

    def _on_sample(self, record: RequestSample, attempt: Attempt) -> None:
        if self._config.calibrate_words and record.phase is Phase.WARMUP and record.input_tokens:
            self._prompts.correct(attempt.prompt_words, record.input_tokens)
        if record.outcome is Outcome.KILLED:
            return
        failed = record.outcome is not Outcome.OK
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="SSE",
            name=str(self._config.workload.endpoint),
            response_time=(record.end_ns - (record.sent_ns or record.dispatch_ns)) / NS_PER_MS,
            response_length=len(attempt.exchange.body),
            exception=RequestFailedError(f"{record.outcome}: {record.error}") if failed else None,
            context={},
        )

    def _request_id(self, step: int, index: int) -> str:
        message = f"{self._config.visit}/{step}/{index}".encode()
        digits = hashlib.blake2b(message, digest_size=16, key=self._nonce).hexdigest()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def close(self) -> None:
        self._recorder.close()
        if self._sender is not None:
            self._sender.kill()
        self._client.close()


class RequestFailedError(Exception):
    """How a failed request appears in Locust's own tables."""
