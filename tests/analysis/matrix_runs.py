"""Matrix runs with a known truth: bursts whose latency is a function of the users."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from loadstair.plan.matrix import Burst, BurstKind, bursts
from loadstair.plan.model import Plan
from loadstair.samples.record import Phase, RequestSample
from loadstair.samples.runrecord import Counters, StepRecord, VisitRecord
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.analysis.synthetic import EPOCH_NS, TP4, SyntheticRun, plan_of, simulate

TESTS = [
    {"id": f"T{place}", "users": users, "input_tokens": 100, "output_tokens": 11}
    for place, users in enumerate((1, 2, 4, 8, 16), start=1)
]
TEMPLATE = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [1], "hold_s": 2}))

ItlMs = Callable[[Burst], float]
"""Every gap of a burst's requests; the first token comes after five of them."""


def rising_itl_ms(burst: Burst) -> float:
    """10 ms alone and at 2 users, 12 at 4, 16 at 8, 32 at 16: latency doubles at 16, where throughput stands still."""
    return {1: 10.0, 2: 10.0, 4: 12.0, 8: 16.0}.get(burst.users, 2.0 * burst.users)


def matrix_plan(tests: list[dict[str, object]] | None = None, *, repeats: int = 1, **matrix: object) -> Plan:
    raw = plan_of({"tp4": TP4}).model_dump(mode="json", exclude_none=True)
    del raw["load"]["steps"], raw["workload"]["input_tokens"], raw["workload"]["output_tokens"]
    raw["load"]["repeats"] = repeats
    return Plan.model_validate(raw | {"matrix": {"tests": tests or TESTS, **matrix}})


def matrix_run(
    plan: Plan | None = None, itl_ms: ItlMs = rising_itl_ms, *, spread: float = 0.0, seed: int = 5
) -> SyntheticRun:
    """`spread`: coefficient of variation of each burst's factor on all of its times."""
    plan = plan or matrix_plan()
    assert plan.matrix is not None
    rng = np.random.default_rng(seed)
    rows: list[RequestSample] = []
    visits = []
    for repeat in range(plan.load.repeats):
        start_ns = EPOCH_NS + repeat * 3600 * NS_PER_S
        steps = []
        for burst in bursts(plan.matrix):
            factors = 1 + spread * rng.standard_normal(burst.requests_per_user)
            if burst.kind is BurstKind.TEST:
                factors[:] = factors[0]
            made = _rows(burst, repeat, start_ns, itl_ms(burst) * factors)
            rows += made
            steps.append(_step(burst, made))
            start_ns = steps[-1].hold_end_ns + NS_PER_S
        visits.append(
            VisitRecord(
                visit=repeat,
                topology="tp4",
                repeat=repeat,
                steps=tuple(steps),
                server_before=None,
                server_after=None,
                drained=True,
            )
        )
    run = replace(TEMPLATE.run, visits=tuple(visits))
    return SyntheticRun(plan=plan, run=run, rows=tuple(rows)).recounted()


def _rows(burst: Burst, repeat: int, start_ns: int, gaps_ms: np.ndarray) -> list[RequestSample]:
    rows: list[RequestSample] = []
    for user in range(burst.users):
        now = start_ns
        for number in range(burst.requests_per_user):
            gap_ns = int(gaps_ms[number] * NS_PER_MS)
            tokens = int(burst.output_tokens.mean)
            arrivals = [now + gap_ns * (5 + place) for place in range(tokens)]
            rows.append(
                replace(
                    TEMPLATE.rows[0],
                    request_id=f"{repeat}-{burst.step}-{user}-{number}",
                    visit=repeat,
                    repeat=repeat,
                    step=burst.step,
                    load=burst.users,
                    phase=Phase.WARMUP if burst.kind is BurstKind.WARMUP else Phase.HOLD,
                    index=len(rows),
                    dispatch_ns=now,
                    sent_ns=now,
                    headers_ns=arrivals[0] - 1000,
                    first_token_ns=arrivals[0],
                    last_token_ns=arrivals[-1],
                    end_ns=arrivals[-1] + 1,
                    arrivals=arrivals,
                    output_tokens=tokens,
                    output_tokens_asked=tokens,
                    input_tokens=int(burst.input_tokens.mean),
                    input_tokens_asked=int(burst.input_tokens.mean),
                )
            )
            now = arrivals[-1] + 1
    return rows


def _step(burst: Burst, rows: list[RequestSample]) -> StepRecord:
    end_ns = max(row.end_ns for row in rows)
    return StepRecord(
        step=burst.step,
        load=burst.users,
        start_ns=rows[0].dispatch_ns,
        hold_start_ns=rows[0].dispatch_ns,
        hold_end_ns=end_ns,
        tail_end_ns=end_ns,
        tail_complete=True,
        workers=("worker0", "worker1"),
        workers_lost=(),
        counters=Counters(started=0, ok=0, failed=0, killed=0),
        test=burst.label,
    )
