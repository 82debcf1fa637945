"""The load of one visit in simulated time: what `loadstair.drive.session` is for Locust's processes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pyarrow as pa

from loadstair.clock import Deadline
from loadstair.forecast.books import WORKER, Books, Sent, Tag, Wanted
from loadstair.forecast.cluster import Flight
from loadstair.forecast.delays import Delays
from loadstair.forecast.fleet import Fleet
from loadstair.forecast.gauges import Gauges
from loadstair.forecast.senders import ClosedLoop, OpenLoop, Sender
from loadstair.forecast.simulated_time import SimulatedTime
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import Plan
from loadstair.plan.staircase import Visit
from loadstair.plan.workload import RequestSpec, request_spec
from loadstair.samples.look import LoadStatus
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.runrecord import ClockReading, Counters
from loadstair.units import ns_from_s

LOOK_S = 0.05


class SimulatedLoad:
    """Time passes only in `clock.sleep_s`."""

    def __init__(
        self, fleet: Fleet, visit: Visit, plan: Plan, arrivals: Arrivals | None, delays: Delays, *, start_ns: int
    ) -> None:
        """`arrivals`: of an open loop; None in a closed one."""
        self.clock = SimulatedTime(start_ns)
        self._cluster = fleet.cluster(self.clock, delays, seed=plan.seed)
        self.gauges = Gauges(self._cluster, self.clock, topology=visit.topology.name)
        self._fleet = fleet
        self._visit = visit
        self._plan = plan
        self._books = Books(visit=visit.visit, topology=visit.topology.name, repeat=visit.repeat)
        self._tag = Tag(step=0, load=0.0, phase=Phase.WARMUP)
        self._sender = self._make_sender(arrivals, delays)
        self._draws = 0

    def _make_sender(self, arrivals: Arrivals | None, delays: Delays) -> Sender:
        seed = self._plan.seed
        if arrivals is None:
            return ClosedLoop(self.clock, self._dispatch, seed=seed, turnaround_ns=delays.turnaround_ns)
        return OpenLoop(
            self.clock,
            self._dispatch,
            self._books,
            arrivals,
            seed=seed,
            repeat=self._visit.repeat,
            in_flight_max=self._plan.load.max_in_flight,
        )

    def begin_step(self, *, step: int, load: float, users: int, growth_s: float) -> int:
        self._tag = Tag(step=step, load=load, phase=Phase.WARMUP)
        self._books.begin_step(step)
        self._sender.begin_step(self._tag, users, growth_s)
        return self.clock.now_ns()

    def set_phase(self, phase: Phase) -> int:
        self._tag = replace(self._tag, phase=phase)
        self._sender.set_tag(self._tag)
        return self.clock.now_ns()

    def status(self) -> LoadStatus:
        cluster, books, sender = self._cluster, self._books, self._sender
        hold = replace(self._tag, phase=Phase.HOLD)
        return LoadStatus(
            workers=(WORKER,),
            workers_lost=(),
            users=sender.users,
            in_flight=len(books.under_way) + sender.waiting,
            in_flight_hold=books.under_way_in_hold(hold.step) + sender.waiting_in_hold(hold),
            started_users=sender.started_users,
            tokens=cluster.tokens,
            first_tokens=cluster.first_tokens,
            ttft_ns_sum=cluster.ttft_ns_sum,
            latencies=books.hold_latencies(),
        )

    def hold_tpot_ms_p50(self) -> float | None:
        """Of the hold's requests that have ended; None where no answer had two tokens."""
        return self._books.hold_tpot_ms_p50()

    def flush(self) -> dict[int, Counters]:
        return self._books.counters()

    def clocks(self) -> tuple[ClockReading, ...]:
        return ()

    def take_records(self) -> pa.Table:
        return self._books.take_table()

    def confirm_records(self) -> None:
        """They were never anywhere else."""

    def records_due(self) -> bool:
        return False

    def drain(self, deadline: Deadline, *, wait: Callable[[float], None]) -> bool:
        self._sender.end()
        while self._books.under_way or self._sender.waiting:
            if deadline.passed():
                return False
            wait(LOOK_S)
        return True

    def stop(self) -> dict[int, Counters]:
        self._sender.end()
        for sent in list(self._books.under_way):
            self._give_up(sent, Outcome.KILLED, "stopped while under way")
        return self._books.counters()

    def check_processes(self) -> None:
        """There are none."""

    def _dispatch(self, wanted: Wanted) -> None:
        plan = self._plan
        spec = self._spec(wanted)
        self._draws += 1
        flight = Flight(
            prompt_tokens=spec.input_tokens,
            max_tokens=spec.output_tokens,
            stop_after=self._fleet.stop_after(plan.workload, seed=plan.seed, number=self._draws),
            prefix_tokens=spec.prefix_tokens,
            sent_ns=self.clock.now_ns(),
        )
        sent = Sent(wanted=wanted, spec=spec, flight=flight)
        flight.on_end = partial(self._ended, sent)
        self._books.start(sent)
        self._watch_time(sent)
        self._cluster.send(flight)

    def _spec(self, wanted: Wanted) -> RequestSpec:
        plan, step, index = self._plan, wanted.tag.step, wanted.index
        spec = request_spec(plan.workload, seed=plan.seed, repeat=self._visit.repeat, step=step, index=index)
        if wanted.input_tokens is not None:
            spec = replace(spec, input_tokens=max(wanted.input_tokens, spec.prefix_tokens + 1))
        if wanted.output_tokens is not None:
            spec = replace(spec, output_tokens=wanted.output_tokens)
        return spec

    def _watch_time(self, sent: Sent) -> None:
        load = self._plan.load
        timeouts = {"no first byte": load.first_byte_timeout_s, "not complete": load.request_timeout_s}
        for what, limit_s in timeouts.items():
            if limit_s is not None:
                late = partial(self._late, sent, f"{what} within {limit_s:g} s", first=what == "no first byte")
                self.clock.at(sent.flight.sent_ns + ns_from_s(limit_s), late)

    def _late(self, sent: Sent, error: str, *, first: bool) -> None:
        if sent.outcome is None and not (first and sent.flight.token_ns):
            self._give_up(sent, Outcome.TIMEOUT, error)
            self._sender.ended(sent)

    def _give_up(self, sent: Sent, outcome: Outcome, error: str) -> None:
        self._cluster.cut(sent.flight)
        self._books.end(sent, outcome, self.clock.now_ns(), error)

    def _ended(self, sent: Sent) -> None:
        refused = sent.flight.refused
        outcome = Outcome.OK if refused is None else Outcome.HTTP_ERROR
        self._books.end(sent, outcome, self.clock.now_ns(), None if refused is None else refused.reason)
        self._sender.ended(sent)
