"""The load's control protocol in the Locust master: a Flask blueprint under /loadstair/.

The calls are described in docs/architecture.md.
Everything runs in the master's one thread; commands that change the load go one after the other.
"""

import dataclasses
import hmac
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, Final

import gevent
import msgpack
from flask import Blueprint, Response, g, jsonify, request
from gevent.lock import RLock
from locust.runners import MasterRunner
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from loadstair.clock import Deadline, now_ns
from loadstair.load.config import LoadConfig
from loadstair.load.crew import Crew, NoAnswerError, worker_name
from loadstair.load.door import Door
from loadstair.load.gate import shares
from loadstair.load.messages import FLUSH_S, LENGTHS, Command
from loadstair.locust_process import TOKEN_HEADER
from loadstair.plan.model import Lengths
from loadstair.samples.record import Phase
from loadstair.units import NS_PER_S

logger = logging.getLogger(__name__)

BARRIER_S: Final = 10.0
SPAWN_S: Final = 30.0
LEASE_LOOKS: Final = 8
COUNTERS: Final = ("scheduled", "held_back", "started", "ok", "failed", "killed", "lost")
START_AHEAD_NS: Final = NS_PER_S // 4
"""From the order to the beginning of an open loop's schedule: all workers have heard of it by then."""


class Controller:
    def __init__(self, config: LoadConfig, runner: MasterRunner, *, token: str) -> None:
        self._config = config
        self._runner = runner
        self._token = token.encode()
        self._crew = Crew(runner)
        self._door: Door | None = None
        """Only where workers come from other hosts."""
        self._lock = RLock()
        self._heard = True
        """Since `keep_lease` looked last."""
        self._calls = 0
        """Being carried out."""
        self._current_step = 0

    def blueprint(self) -> Blueprint:
        blueprint = Blueprint("loadstair", __name__, url_prefix="/loadstair")
        blueprint.before_request(self._admit)
        blueprint.teardown_request(self._leave)
        blueprint.register_error_handler(NoAnswerError, lambda error: (jsonify(error=str(error)), 503))
        blueprint.register_error_handler(HTTPException, lambda error: (jsonify(error=error.description), error.code))
        blueprint.get("/lease")(self._lease)
        blueprint.get("/muster")(self._muster)
        blueprint.get("/status")(self._status)
        blueprint.get("/processes")(self._processes)
        blueprint.post("/clocks")(self._clocks)
        blueprint.post("/step")(self._step)
        blueprint.post("/phase")(self._phase)
        blueprint.post("/drain")(self._drain)
        blueprint.post("/flush")(self._flush)
        blueprint.get("/records")(self._records)
        blueprint.post("/kept")(self._kept)
        blueprint.post("/stop")(self._stop)
        return blueprint

    def open_door(self, locustfiles: list[str]) -> None:
        self._door = Door(self._config, self._runner, locustfiles, begun=lambda: self._crew.mustered)

    def refuse_others(self) -> None:
        """For every request to the server: Locust's own pages let anybody change options and start load, so they are
        closed while an orchestrator drives."""
        if request.blueprint != "loadstair":
            raise Forbidden("driven by loadstair: only its own calls are served")

    def _admit(self) -> None:
        given = request.headers.get(TOKEN_HEADER, "").encode()
        if not hmac.compare_digest(given, self._token):
            raise Forbidden("wrong or missing token")
        g.admitted = True
        self._heard = True
        self._calls += 1

    def _leave(self, _error: BaseException | None) -> None:
        if "admitted" in g:
            self._heard = True
            self._calls -= 1

    def _lease(self) -> Response:
        return jsonify({})

    def _muster(self) -> Response:
        """Of workers on other hosts: who came and is ready, and who was turned away and why."""
        inside = self._door.inside() if self._door is not None else {}
        turned_away = self._door.turned_away() if self._door is not None else []
        ready = self._crew.ready()
        return jsonify(came=[inside[client_id] for client_id in inside if client_id in ready], turned_away=turned_away)

    def _status(self) -> Response:
        answers = self._command(Command.STATUS)
        return jsonify(
            workers=self._crew.names(),
            workers_lost=self._crew.names_lost(),
            users=_total(answers, "users"),
            in_flight=_total(answers, "in_flight"),
            in_flight_hold=_total(answers, "in_flight_hold"),
            started_users=_total(answers, "started_users"),
            tokens=_total(answers, "tokens"),
            first_tokens=_total(answers, "first_tokens"),
            ttft_ns_sum=_total(answers, "ttft_ns_sum"),
            latencies=self._crew.latencies(self._current_step),
        )

    def _processes(self) -> Response:
        answers, ranks = self._command(Command.PROCESS), self._crew.alive()
        told = [(ranks[client_id], answer["process"]) for client_id, answer in answers.items() if client_id in ranks]
        return jsonify(processes=[{"worker": worker_name(rank), **process} for rank, process in told])

    def _clocks(self) -> Response:
        with self._lock:
            if not self._crew.mustered:
                self._crew.muster()
            readings = self._crew.read_clocks(deadline=Deadline.after_s(BARRIER_S))
            return jsonify(clocks=[dataclasses.asdict(reading) for reading in readings])

    def _step(self) -> Response:
        body = _body()
        step, users = _whole(body, "step"), _whole(body, "users")
        load, growth_s = _number(body, "load"), _number(body, "growth_s")
        burst = _burst(body)
        with self._lock:
            if not self._crew.mustered:
                self._crew.muster()
            if not self._crew.alive():
                raise NoAnswerError("no worker is connected")
            self._crew.begin_step()
            self._current_step = step
            open_loop = self._config.arrivals is not None
            users = self._spawn(None if open_loop else users)
            ranks = self._crew.alive()
            active = shares(users, self._crew.users())
            start_ns = now_ns() + START_AHEAD_NS if open_loop else None
            limit = self._config.max_in_flight
            limits = {} if limit is None else shares(limit, dict.fromkeys(ranks, limit))
            orders = {
                client_id: {
                    "name": worker_name(rank),
                    "rank": place,
                    "workers": len(ranks),
                    "step": step,
                    "load": load,
                    "active": active[client_id],
                    "growth_s": growth_s,
                    "start_ns": None if start_ns is None else self._crew.on_clock_of(client_id, start_ns),
                    "in_flight_max": limits.get(client_id),
                    **burst,
                }
                for place, (client_id, rank) in enumerate(ranks.items())
            }
            return _since(self._command(Command.STEP, orders))

    def _spawn(self, users: int | None) -> int:
        """Makes Locust have that many users, and returns how many; the new ones stay parked until the step's command
        comes. None: one on each worker, which in an open loop sends all that is due there.

        Those of a worker that is lost meanwhile are spawned anew by the others.
        """
        deadline = Deadline.after_s(SPAWN_S)
        asked: dict[str, int] = {}
        while True:
            alive = self._crew.alive()
            if not alive:
                raise NoAnswerError("every worker was lost")
            wanted = len(alive) if users is None else users
            if sum(self._crew.users().values()) >= wanted:
                return wanted
            if deadline.passed():
                raise NoAnswerError(f"the workers did not spawn {wanted} users")
            if alive != asked:
                self._runner.start(wanted, spawn_rate=max(1, wanted))
                asked = alive
            gevent.sleep(0.02)

    def _phase(self) -> Response:
        phase = _phase_in(_body())
        orders = {client_id: {"phase": phase} for client_id in self._crew.alive()}
        with self._lock:
            return _since(self._command(Command.PHASE, orders))

    def _drain(self) -> Response:
        with self._lock:
            return _since(self._command(Command.DRAIN))

    def _flush(self) -> Response:
        with self._lock:
            answers = self._command(Command.FLUSH, deadline=Deadline.after_s(FLUSH_S + BARRIER_S))
            if not all(answer["complete"] for answer in answers.values()):
                raise NoAnswerError(f"a worker had still records to parse after {FLUSH_S:g} s")
            return jsonify(counters=_sums(self._crew.settle(answers)))

    def _records(self) -> Response:
        return Response(msgpack.packb(self._crew.take_batches()), mimetype="application/msgpack")

    def _kept(self) -> Response:
        self._crew.confirm(deadline=Deadline.after_s(BARRIER_S))
        return jsonify({})

    def _stop(self) -> Response:
        with self._lock:
            answers = self._command(Command.STOP, deadline=Deadline.after_s(2 * FLUSH_S + BARRIER_S))
            return jsonify(counters=_sums(self._crew.settle(answers)))

    def _command(
        self, kind: Command, orders: dict[str, dict[str, Any]] | None = None, *, deadline: Deadline | None = None
    ) -> dict[str, dict[str, Any]]:
        return self._crew.command(kind, orders, deadline=deadline or Deadline.after_s(BARRIER_S))

    def keep_lease(self) -> None:
        """Ends the load and the process when the orchestrator has not been heard of for `lease_s`. Never returns.

        Counted in looks, not by the clock: while this process itself stood still it could hear nobody.
        """
        silent_looks = 0
        while silent_looks < LEASE_LOOKS:
            self._heard = False
            gevent.sleep(self._config.lease_s / LEASE_LOOKS)
            silent_looks = 0 if self._heard or self._calls else silent_looks + 1
        logger.error("no request for %g s: stopping the load", self._config.lease_s)
        self._runner.quit()
        sys.stderr.flush()
        os._exit(1)


def _since(answers: dict[str, dict[str, Any]]) -> Response:
    if not answers:
        raise NoAnswerError("every worker was lost")
    return jsonify(since_ns=max(answer["since_ns"] for answer in answers.values()))


def _sums(counters: Iterable[dict[int, dict[str, int]]]) -> dict[int, dict[str, int]]:
    """Over the workers, by step."""
    total: dict[int, dict[str, int]] = {}
    for steps in counters:
        for step, books in steps.items():
            sums = total.setdefault(step, dict.fromkeys(COUNTERS, 0))
            for name in COUNTERS:
                sums[name] += books[name]
    return total


def _total(answers: dict[str, dict[str, Any]], key: str) -> int:
    return sum(answer[key] for answer in answers.values())


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _burst(body: dict[str, Any]) -> dict[str, Any]:
    """What only a step of a known number of requests has; what the worker gets of it where there is none."""
    requests = None if body.get("requests_per_user") is None else _whole(body, "requests_per_user")
    burst: dict[str, Any] = {"phase": _phase_in(body, default=Phase.WARMUP), "requests_per_user": requests}
    for side in LENGTHS:
        try:
            lengths = None if body.get(side) is None else Lengths.model_validate(body[side])
        except ValidationError as error:
            raise BadRequest(f"{side}: {body[side]!r} is no length") from error
        burst[side] = None if lengths is None else lengths.model_dump()
    return burst


def _phase_in(body: dict[str, Any], default: Phase | None = None) -> str:
    phase = body.get("phase", default)
    if phase not in tuple(Phase):
        raise BadRequest(f"phase: {phase!r} is none of {', '.join(Phase)}")
    return str(phase)


def _number(body: dict[str, Any], key: str) -> float:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadRequest(f"{key}: {value!r} is not a number of at least 0")
    return float(value)


def _whole(body: dict[str, Any], key: str) -> int:
    value = _number(body, key)
    if value != int(value):
        raise BadRequest(f"{key}: {value!r} is not a whole number")
    return int(value)
