"""A worker under an orchestrator: obeys the master's commands and sends it the records."""

import logging
import sys
from typing import Any, Final

import gevent
from gevent.queue import Queue
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import WorkerRunner

from loadstair.clock import Deadline, now_ns
from loadstair.load.config import LoadConfig
from loadstair.load.dispatcher import Dispatcher
from loadstair.load.gate import Gate
from loadstair.load.latencies import Packed
from loadstair.load.messages import ANSWER, BATCH, COMMAND, FLUSH_S, LENGTHS, READY, Command
from loadstair.load.own_process import own_process
from loadstair.load.spool import Spool
from loadstair.load.tag import Tag
from loadstair.load.worker import WorkerLoad
from loadstair.locust_process import SPOOLED_MARK
from loadstair.plan.model import Lengths
from loadstair.samples.record import Phase

logger = logging.getLogger(__name__)

SEND_TRIES: Final = 5
SEND_RETRY_S: Final = 1.0
QUIT_S: Final = 3.0
"""For the rest of the records, when the process is to end."""


class CommandedLoad:
    def __init__(self, config: LoadConfig, environment: Environment, runner: WorkerRunner, *, nonce: bytes) -> None:
        self._runner = runner
        self._outbox: Queue[tuple[str, dict[str, Any]]] = Queue()
        self._spool = Spool.of_environment(config)
        self._gate = Gate(seed=config.seed, tag=Tag(step=0, load=0.0, phase=Phase.WARMUP))
        self.load = WorkerLoad(config, environment, nonce=nonce, gate=self._gate, send_batch=self._send_batch)
        self._recorder = self.load.recorder
        if config.arrivals is not None:
            self.load.dispatcher = Dispatcher(
                config.arrivals,
                seed=config.seed,
                repeat=config.repeat,
                send=self.load.run_due,
                on_due=self._recorder.scheduled,
                on_held_back=self._recorder.held_back,
            )
        self._dispatcher = self.load.dispatcher
        gevent.spawn(self._send_all)
        environment.events.quitting.add_listener(self._on_quitting)  # type: ignore[no-untyped-call]

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
            case Command.CLOCK:
                return {"sent_ns": data["sent_ns"], "there_ns": now_ns()}
            case Command.PROCESS:
                return {"process": own_process()}
            case Command.STEP:
                return self._begin_step(data)
            case Command.PHASE:
                if self._dispatcher is not None:
                    self._dispatcher.set_phase(Phase(data["phase"]))
                tag = self._gate.tag
                self._gate.tag = Tag(step=tag.step, load=tag.load, phase=Phase(data["phase"]))
                return {"since_ns": now_ns()}
            case Command.DRAIN:
                self._gate.park_all()
                if self._dispatcher is not None:
                    self._dispatcher.end_schedule()
                return {"since_ns": now_ns()}
            case Command.FLUSH:
                return self._flush()
            case Command.KEPT:
                self._spool.forget(data["batches"])
                return {}
            case Command.STOP:
                self._stop(FLUSH_S)
                return self._flush()

    def _stop(self, timeout_s: float) -> None:
        """Kills what is under way."""
        self._gate.park_all()
        self._runner.user_greenlets.kill(timeout=timeout_s)
        if self._dispatcher is not None:
            self._dispatcher.kill(timeout_s)

    def _status(self) -> dict[str, Any]:
        recorder, dispatcher, step = self._recorder, self._dispatcher, self._gate.tag.step
        return {
            "users": self._gate.active if dispatcher is None else 0,
            "in_flight": recorder.in_flight() + (dispatcher.waiting if dispatcher else 0),
            "in_flight_hold": recorder.in_flight_hold(step) + (dispatcher.waiting_hold(step) if dispatcher else 0),
            "started_users": len(self._gate.dispatched),
            **recorder.totals(),
        }

    def _begin_step(self, data: dict[str, Any]) -> dict[str, Any]:
        rank = int(data["rank"])
        self._recorder.worker = data["name"]
        lengths = [None if data[side] is None else Lengths(**data[side]) for side in LENGTHS]
        self.load.lengths_of_step(*lengths)
        tag = Tag(step=data["step"], load=data["load"], phase=Phase(data["phase"]))
        self._gate.begin_step(
            tag,
            rank=rank,
            workers=data["workers"],
            active=data["active"],
            growth_s=data["growth_s"],
            requests_per_user=data["requests_per_user"],
        )
        if self._dispatcher is not None:
            self._dispatcher.begin_step(
                tag,
                rank=rank,
                workers=data["workers"],
                start_ns=data["start_ns"],
                in_flight_max=data["in_flight_max"],
            )
        return {"since_ns": now_ns()}

    def _flush(self) -> dict[str, Any]:
        complete = self._recorder.flush(Deadline.after_s(FLUSH_S))
        return {"counters": self._recorder.counters(), "batches": self._recorder.batches, "complete": complete}

    def _send_batch(self, batch: bytes, records: int, latencies: dict[int, Packed]) -> None:
        counters, number = self._recorder.counters(), self._recorder.batches
        self._spool.append(number, counters, batch, records)
        message = {"batches": number, "counters": counters, "batch": batch, "latencies": latencies}
        self._outbox.put((BATCH, message))

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

    def _on_quitting(self, **_: Any) -> None:
        """At a visit's end everything is on the orchestrator's disk by now. If not, its master is gone."""
        self._stop(QUIT_S)
        self._recorder.flush(Deadline.after_s(QUIT_S))
        if self._spool.records:
            sys.stderr.write(f"{SPOOLED_MARK}{self._spool.records} records are kept in {self._spool.path}\n")
            sys.stderr.flush()
