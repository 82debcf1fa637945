"""The workers as the master sees them: ranks, who is lost, and commands that every one of them acknowledges."""

import itertools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gevent.event import Event
from locust.runners import STATE_INIT, STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner

from loadstair.clock import Deadline, now_ns
from loadstair.load.clocks import Exchange, clock_reading
from loadstair.load.latencies import STEPS_KEPT, Packed, merged
from loadstair.load.messages import ANSWER, BATCH, COMMAND, READY, Command
from loadstair.samples.runrecord import ClockReading

LOOK_S: Final = 0.1
CLOCK_EXCHANGES: Final = 8


class NoAnswerError(Exception):
    """A worker did not acknowledge in time; `str()` names it."""


class Batch(NamedTuple):
    client_id: str
    number: int
    """Of its worker's, from 1."""
    packed: bytes


class Crew:
    """A worker that was lost once stays lost, even if Locust takes it back: nobody counts what it sends then, so it is
    told to quit. From the next step on those that are left carry all."""

    def __init__(self, runner: MasterRunner) -> None:
        self._runner = runner
        self._ids = itertools.count(1)
        self._waiting: dict[int, dict[str, dict[str, Any]]] = {}
        self._answered = Event()
        self._ranks: dict[str, int] = {}
        self._ready: set[str] = set()
        self._lost: set[str] = set()
        self._lost_before: set[str] = set()
        """Those of `_lost` that were so when the step began."""
        self._expelled: set[str] = set()
        """Came back, and were told to quit."""
        self._offsets_ns: dict[str, int] = {}
        """Of the clocks of workers on other hosts, by client id."""
        self._held: list[Batch] = []
        self._flushed: list[Batch] = []
        self._taken: dict[str, int] = {}
        """The number of the newest batch that `take_batches` gave, by client id."""
        self._latencies: dict[str, dict[int, Packed]] = {}
        """By client id and step: what a worker said last."""
        self._counters: dict[str, dict[int, dict[str, int]]] = {}
        """By client id: what a worker said last, with a batch or in an answer."""
        runner.register_message(ANSWER, self._on_answer)
        runner.register_message(BATCH, self._on_batch)
        runner.register_message(READY, self._on_ready)

    def muster(self) -> None:
        """Gives every worker that is there its rank. Later comers stay without one and get no load."""
        for client_id in sorted(self._connected(), key=self._runner.get_worker_index):
            self._ranks[client_id] = len(self._ranks)

    def begin_step(self) -> None:
        """From now on only those count that are there now."""
        self._look_for_lost()
        self._lost_before = set(self._lost)

    def ready(self) -> set[str]:
        """Client ids of the workers that obey now."""
        return set(self._connected())

    @property
    def mustered(self) -> bool:
        return bool(self._ranks)

    def names(self) -> list[str]:
        """Of the workers that began the step, by rank; before `muster`, of as many as are ready."""
        if not self.mustered:
            return [worker_name(rank) for rank in range(len(self._connected()))]
        return [worker_name(rank) for client_id, rank in self._ranks.items() if client_id not in self._lost_before]

    def names_lost(self) -> list[str]:
        """Since the step began."""
        self._look_for_lost()
        lost = self._lost - self._lost_before
        return [worker_name(rank) for client_id, rank in self._ranks.items() if client_id in lost]

    def alive(self) -> dict[str, int]:
        """Ranks by client id."""
        self._look_for_lost()
        return {client_id: rank for client_id, rank in self._ranks.items() if client_id not in self._lost}

    def users(self) -> dict[str, int]:
        """Users that Locust has spawned, by client id, whether they run or are parked."""
        return {client_id: self._runner.clients[client_id].user_count for client_id in self.alive()}

    def command(
        self, kind: Command, data: Mapping[str, Mapping[str, Any]] | None = None, *, deadline: Deadline
    ) -> dict[str, dict[str, Any]]:
        """Sends to every worker that is alive and waits for all; returns their answers by client id.

        A worker that is lost while waited for has no answer. Raises NoAnswerError.
        """
        command_id = next(self._ids)
        answers = self._waiting[command_id] = {}
        try:
            asked = list(self.alive())
            for client_id in asked:
                message = {"id": command_id, "kind": str(kind), "sent_ns": now_ns(), **(data or {}).get(client_id, {})}
                self._runner.send_message(COMMAND, message, client_id)
            while missing := [
                client_id for client_id in asked if client_id not in answers and client_id not in self._lost
            ]:
                if deadline.passed():
                    names = ", ".join(worker_name(self._ranks[client_id]) for client_id in missing)
                    raise NoAnswerError(f"{names}: no answer to {kind}")
                self._answered.wait(timeout=LOOK_S)
                self._answered.clear()
                self._look_for_lost()
            return answers
        finally:
            del self._waiting[command_id]

    def on_clock_of(self, client_id: str, at_ns: int) -> int:
        """A time of this process's clock, as that worker's clock shows it."""
        return at_ns + self._offsets_ns.get(client_id, 0)

    def read_clocks(self, *, deadline: Deadline) -> list[ClockReading]:
        """Of every worker that is alive; from now on their times in answers are on this process's clock."""
        exchanges: dict[str, list[Exchange]] = {client_id: [] for client_id in self._ranks}
        for _ in range(CLOCK_EXCHANGES):
            for client_id, answer in self.command(Command.CLOCK, deadline=deadline).items():
                exchanges[client_id].append(Exchange(answer["sent_ns"], answer["there_ns"], answer["back_ns"]))
        readings = {
            client_id: clock_reading(worker_name(self._ranks[client_id]), mine)
            for client_id, mine in exchanges.items()
            if mine
        }
        self._offsets_ns = {client_id: reading.offset_ns for client_id, reading in readings.items()}
        return list(readings.values())

    def settle(self, answers: Mapping[str, Mapping[str, Any]]) -> list[dict[int, dict[str, int]]]:
        """The workers' counters by step, from their answers to a flush or stop; `take_batches` then gives exactly the
        batches that they count. Of a lost worker, that is all that ever came from it; the rest of what it started is
        lost with it."""
        kept = []
        for batch in self._held:
            answer = answers.get(batch.client_id)
            if answer is None or batch.number <= answer["batches"]:
                self._flushed.append(batch)
            else:
                kept.append(batch)
        self._held = kept
        counters = self._counters | {client_id: answer["counters"] for client_id, answer in answers.items()}
        return [
            _with_lost(steps, lost=client_id in self._lost and client_id not in answers)
            for client_id, steps in counters.items()
        ]

    def take_batches(self) -> list[bytes]:
        """Those that the last `settle` counted, and were not taken before."""
        batches, self._flushed = self._flushed, []
        for batch in batches:
            self._taken[batch.client_id] = max(batch.number, self._taken.get(batch.client_id, 0))
        return [batch.packed for batch in batches]

    def confirm(self, *, deadline: Deadline) -> None:
        """Tells the workers that all batches ever taken are on the orchestrator's disk. Raises NoAnswerError."""
        taken = {client_id: {"batches": self._taken.get(client_id, 0)} for client_id in self.alive()}
        self.command(Command.KEPT, taken, deadline=deadline)

    def latencies(self, step: int) -> dict[str, float | int | None]:
        """Of the step's hold so far, over all workers, lost ones as well: as `StepLatencies.in_ms`."""
        return merged(steps[step] for steps in self._latencies.values() if step in steps).in_ms()

    def _connected(self) -> list[str]:
        states = (STATE_INIT, STATE_SPAWNING, STATE_RUNNING)
        return [client.id for client in self._runner.clients.all if client.state in states and client.id in self._ready]

    def _look_for_lost(self) -> None:
        connected = {client.id for client in self._runner.clients.all if client.state != STATE_MISSING}
        self._lost.update(client_id for client_id in self._ranks if client_id not in connected)
        for client_id in self._lost & connected - self._expelled:
            self._expelled.add(client_id)
            self._runner.send_message("quit", None, client_id)

    def _on_ready(self, msg: Any, **_: Any) -> None:
        self._ready.add(msg.node_id)

    def _on_answer(self, msg: Any, **_: Any) -> None:
        came_ns = now_ns()
        if "counters" in msg.data:
            self._counters[msg.node_id] = msg.data["counters"]
        answers = self._waiting.get(msg.data["id"])
        if answers is not None:
            answer = {**msg.data, "back_ns": came_ns}
            if "since_ns" in answer:
                answer["since_ns"] -= self._offsets_ns.get(msg.node_id, 0)
            answers[msg.node_id] = answer
            self._answered.set()

    def _on_batch(self, msg: Any, **_: Any) -> None:
        self._counters[msg.node_id] = msg.data["counters"]
        self._held.append(Batch(msg.node_id, msg.data["batches"], msg.data["batch"]))
        steps = self._latencies.setdefault(msg.node_id, {})
        steps.update(msg.data["latencies"])
        for step in list(steps)[:-STEPS_KEPT]:
            del steps[step]


def worker_name(rank: int) -> str:
    return f"worker-{rank}"


def _with_lost(steps: Mapping[int, Mapping[str, int]], *, lost: bool) -> dict[int, dict[str, int]]:
    """One worker's books, with the requests of which it can tell no more."""
    return {
        step: {**books, "lost": books["started"] - books["ok"] - books["failed"] - books["killed"] if lost else 0}
        for step, books in steps.items()
    }
