"""Runs with a known truth: closed-loop users against servers whose TTFT and token gap are functions of the load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from loadstair.analysis.summary import Summary, summarize
from loadstair.plan.model import Plan
from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.readings import Telemetry, telemetry_from_tables
from loadstair.samples.record import Outcome, Phase, RequestSample, StampClock
from loadstair.samples.runrecord import Counters, Ending, RunRecord, ServerCounters, StepRecord, VisitRecord
from loadstair.samples.table import SAMPLE_SCHEMA, TELEMETRY_SCHEMA
from loadstair.units import NS_PER_MS, NS_PER_S, ns_from_s

EPOCH_NS = 1_800_000_000 * NS_PER_S
WORKERS = ("worker0", "worker1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a topology truly does at a load, in ms; `noise` is the coefficient of variation of every single time."""

    ttft_ms: Callable[[float], float]
    itl_ms: Callable[[float], float]
    noise: float = 0.1


def saturating(*, itl_ms: float, users_at_double: float, ttft_ms: float) -> Server:
    """Gaps grow linearly with the users: throughput tends to `users_at_double / itl_ms`, in tokens per ms."""
    return Server(
        ttft_ms=lambda load: ttft_ms * (1 + load / users_at_double),
        itl_ms=lambda load: itl_ms * (1 + load / users_at_double),
    )


def true_throughput(server: Server, load: float, output_tokens: float) -> float:
    """Tokens per second of `load` users, each with one request after the other."""
    e2e_ms = server.ttft_ms(load) + (output_tokens - 1) * server.itl_ms(load)
    return load * output_tokens / e2e_ms * 1000


def plan_of(servers: Mapping[str, Server], **changes: object) -> Plan:
    load = {"steps": [1, 4, 16, 64], "warmup_s": 1, "hold_s": 8, "repeats": 1}
    values: dict[str, object] = {
        "name": "synthetic",
        "seed": 3,
        "workload": {
            "model": "Qwen/Qwen2.5-32B-Instruct",
            "input_tokens": {"mean": 128, "cv": 0.2},
            "output_tokens": {"mean": 32, "cv": 0.2},
        },
        "topologies": [
            {
                "name": name,
                "kind": "external",
                "url": "http://127.0.0.1:1",
                "gpus": {"type": "h100-sxm", "count": 4, "usd_per_hour": 2.5},
            }
            for name in servers
        ],
        **changes,
    }
    values["load"] = {**load, **values.get("load", {})}  # type: ignore[dict-item]
    return Plan.model_validate(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticRun:
    plan: Plan
    run: RunRecord
    rows: tuple[RequestSample, ...]
    telemetry_rows: tuple[tuple[int, str, str, str, float], ...] = field(default=())

    @property
    def samples(self) -> Samples:
        return samples_from_tables([table_of(self.rows)])

    @property
    def telemetry(self) -> Telemetry:
        columns = list(zip(*self.telemetry_rows, strict=True)) or [[]] * len(TELEMETRY_SCHEMA)
        return telemetry_from_tables(
            [pa.table(dict(zip(TELEMETRY_SCHEMA.names, columns, strict=True)), TELEMETRY_SCHEMA)]
        )

    def summary(self, seed: int = 1) -> Summary:
        return summarize(self.run, self.plan, self.samples, self.telemetry, np.random.default_rng(seed))

    def with_rows(self, change: Callable[[RequestSample], RequestSample]) -> "SyntheticRun":
        return replace(self, rows=tuple(change(row) for row in self.rows))

    def with_steps(self, change: Callable[[VisitRecord, StepRecord], StepRecord]) -> "SyntheticRun":
        visits = tuple(replace(v, steps=tuple(change(v, step) for step in v.steps)) for v in self.run.visits)
        return replace(self, run=replace(self.run, visits=visits))

    def with_visits(self, change: Callable[[VisitRecord], VisitRecord]) -> "SyntheticRun":
        return replace(self, run=replace(self.run, visits=tuple(change(visit) for visit in self.run.visits)))

    def recounted(self) -> "SyntheticRun":
        """The same rows, with books that agree with them."""
        return self.with_steps(lambda visit, step: replace(step, counters=_counters(self.rows, visit.visit, step.step)))


def table_of(rows: tuple[RequestSample, ...]) -> pa.Table:
    return pa.table({name: [getattr(row, name) for row in rows] for name in SAMPLE_SCHEMA.names}, schema=SAMPLE_SCHEMA)


def simulate(servers: Mapping[str, Server], plan: Plan | None = None, *, drift: float = 0.0) -> SyntheticRun:
    """`drift`: coefficient of variation of a factor on all times of a visit, as restarts have it."""
    plan = plan or plan_of(servers)
    rng = np.random.default_rng(plan.seed)
    rows: list[RequestSample] = []
    visits = []
    start_ns = EPOCH_NS
    order = [
        (repeat, name)
        for repeat in range(plan.load.repeats)
        for name in (servers if repeat % 2 == 0 else reversed(list(servers)))
    ]
    for visit, (repeat, name) in enumerate(order):
        factor = float(np.exp(rng.normal(0, drift))) if drift else 1.0
        made, record = _visit(plan, visit, repeat, name, servers[name], factor, start_ns, rng)
        rows += made
        visits.append(record)
        start_ns = record.steps[-1].tail_end_ns + 60 * NS_PER_S
    run = RunRecord(
        name=plan.name,
        started="2027-01-15T08:00:00+00:00",
        loadstair_version="0.1.0",
        command="loadstair run plan.yaml",
        quick=False,
        seed=plan.seed,
        versions={"python": "3.11", "locust": "2.47.0"},
        host={"cpu": "a CPU", "cores": 8},
        topologies={name: {"kind": "external"} for name in servers},
        visits=tuple(visits),
        ending=Ending.COMPLETE,
    )
    return SyntheticRun(plan=plan, run=run, rows=tuple(rows)).recounted()


def _visit(
    plan: Plan,
    visit: int,
    repeat: int,
    name: str,
    server: Server,
    factor: float,
    start_ns: int,
    rng: np.random.Generator,
) -> tuple[list[RequestSample], VisitRecord]:
    rows: list[RequestSample] = []
    steps = []
    for step, load in enumerate(plan.load.steps):
        hold_start = start_ns + ns_from_s(plan.load.warmup_s)
        hold_end = hold_start + ns_from_s(plan.load.hold_s)
        made = [
            row
            for user in range(int(load))
            for row in _user(
                plan, visit, repeat, step, load, name, server, factor, user, start_ns, hold_start, hold_end, rng
            )
        ]
        tail_end = max(row.end_ns for row in made)
        rows += made
        steps.append(
            StepRecord(
                step=step,
                load=load,
                start_ns=start_ns,
                hold_start_ns=hold_start,
                hold_end_ns=hold_end,
                tail_end_ns=tail_end,
                tail_complete=True,
                workers=WORKERS,
                workers_lost=(),
                counters=Counters(started=0, ok=0, failed=0, killed=0),
            ),
        )
        start_ns = tail_end
    tokens = float(sum(row.output_tokens or 0 for row in rows))
    nothing = ServerCounters(requests_finished=0.0, output_tokens=0.0, input_tokens=0.0)
    after = ServerCounters(requests_finished=float(len(rows)), output_tokens=tokens, input_tokens=None)
    return rows, VisitRecord(
        visit=visit,
        topology=name,
        repeat=repeat,
        steps=tuple(steps),
        server_before=nothing,
        server_after=after,
        drained=True,
    )


def _user(
    plan: Plan,
    visit: int,
    repeat: int,
    step: int,
    load: float,
    name: str,
    server: Server,
    factor: float,
    user: int,
    start_ns: int,
    hold_start: int,
    hold_end: int,
    rng: np.random.Generator,
) -> list[RequestSample]:
    """One request after the other until the hold has ended, like a user of a closed loop."""
    sigma = np.sqrt(np.log1p(server.noise**2))

    def times_ns(mean_ms: float, count: int) -> np.ndarray:
        factors = np.exp(rng.normal(-(sigma**2) / 2, sigma, count))
        return np.maximum(1, (mean_ms * factor * factors * NS_PER_MS)).astype(np.int64)

    rows = []
    now = start_ns + int(rng.uniform(0, server.ttft_ms(load) + server.itl_ms(load) * 32) * NS_PER_MS)
    while now < hold_end:
        lengths = plan.workload.output_tokens
        tokens = max(2, round(rng.normal(lengths.mean, lengths.mean * lengths.cv)))
        arrivals = now + np.cumsum(
            np.concatenate([times_ns(server.ttft_ms(load), 1), times_ns(server.itl_ms(load), tokens - 1)])
        )
        phase = Phase.WARMUP if now < hold_start else Phase.HOLD
        rows.append(_row(visit, repeat, step, load, name, user, len(rows), phase, now, arrivals.tolist(), tokens))
        now = int(arrivals[-1]) + NS_PER_MS
    return rows


def _row(
    visit: int,
    repeat: int,
    step: int,
    load: float,
    name: str,
    user: int,
    index: int,
    phase: Phase,
    now: int,
    arrivals: list[int],
    tokens: int,
) -> RequestSample:
    return RequestSample(
        request_id=f"{visit}-{step}-{user}-{index}",
        visit=visit,
        topology=name,
        repeat=repeat,
        step=step,
        load=load,
        phase=phase,
        worker=WORKERS[user % len(WORKERS)],
        index=index,
        due_ns=None,
        dispatch_ns=now,
        sent_ns=now,
        dns_ns=None,
        connect_ns=None,
        tls_ns=None,
        headers_ns=arrivals[0] - 1000,
        first_token_ns=arrivals[0],
        last_token_ns=arrivals[-1],
        end_ns=arrivals[-1],
        arrivals=arrivals,
        chunk_tokens=None,
        output_tokens=tokens,
        input_tokens=128,
        cached_input_tokens=None,
        output_tokens_asked=tokens,
        input_tokens_asked=128,
        outcome=Outcome.OK,
        status=200,
        error=None,
        finish_reason="length",
        upstream=f"127.0.0.1:{9000 + user % 2}",
        read_lag_ns=50_000,
        bunched=0,
        bunched_late=0,
        late_reads=0,
        clock=StampClock.KERNEL,
        clock_step=False,
    )


def failed(row: RequestSample, outcome: Outcome = Outcome.HTTP_ERROR) -> RequestSample:
    """The same request, had the server refused it."""
    return replace(
        row,
        outcome=outcome,
        status=503,
        error="503 Service Unavailable",
        arrivals=[],
        output_tokens=None,
        first_token_ns=None,
        last_token_ns=None,
        finish_reason=None,
    )


def _counters(rows: tuple[RequestSample, ...], visit: int, step: int) -> Counters:
    own = [row for row in rows if row.visit == visit and row.step == step]
    ok = sum(row.outcome is Outcome.OK for row in own)
    killed = sum(row.outcome is Outcome.KILLED for row in own)
    return Counters(started=len(own), ok=ok, failed=len(own) - ok - killed, killed=killed)


TP4 = saturating(itl_ms=10, users_at_double=16, ttft_ms=40)
"""Tends to 16 / 10 ms = 1600 tokens/s."""
TP2X2 = saturating(itl_ms=16, users_at_double=40, ttft_ms=60)
"""Slower alone, but tends to 40 / 16 ms = 2500 tokens/s."""


def two_topologies(**changes: object) -> SyntheticRun:
    servers = {"tp4": TP4, "tp2x2": TP2X2}
    return simulate(servers, plan_of(servers, **changes))
