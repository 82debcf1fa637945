"""Summaries as the report reads them: through JSON, from runs with a known truth."""

import json
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from loadstair.analysis.summary import summary_json
from loadstair.samples.runrecord import Ending
from loadstair.units import NS_PER_S
from tests.analysis.synthetic import SyntheticRun, plan_of, saturating, simulate, two_topologies


@cache
def mixed_run() -> SyntheticRun:
    """Two topologies; tp4's highest step is invalid (the generator was saturated); one threshold met, one failed."""
    run = two_topologies(
        load={"steps": [4, 16, 64], "repeats": 2},
        slo={"ttft_ms_p99": 150},
        thresholds=[
            "comparisons.tp2x2_vs_tp4.steps[load=16].throughput_ratio < 2",
            "topologies.tp2x2.capacity.goodput_rps >= 1000",
        ],
    )
    run = run.with_rows(
        lambda row: replace(row, bunched=3, bunched_late=3) if row.load == 64 and row.topology == "tp4" else row,
    )
    return with_telemetry(run)


def with_telemetry(run: SyntheticRun) -> SyntheticRun:
    """Two engines for each topology, read once a second: half of the load runs on each, one request waits."""
    rows = []
    for visit in run.run.visits:
        for step in visit.steps:
            for at_ns in range(step.start_ns, step.tail_end_ns, NS_PER_S):
                for engine in (f"{visit.topology}/engine0", f"{visit.topology}/engine1"):
                    rows += [
                        (at_ns, engine, "engine.requests.running", "", step.load / 2),
                        (at_ns, engine, "engine.requests.waiting", "", 1.0),
                        (at_ns, engine, "engine.kv.usage", "", step.load / 100),
                    ]
    return replace(run, telemetry_rows=tuple(rows))


@cache
def four_run() -> SyntheticRun:
    """Four topologies, of which each later one is slower alone and carries more."""
    servers = {
        name: saturating(itl_ms=8 + 4 * place, users_at_double=10 * 2**place, ttft_ms=40 + 15 * place)
        for place, name in enumerate(("tp8", "tp4x2", "tp2x4", "tp1x8"))
    }
    return simulate(servers, plan_of(servers, load={"steps": [1, 4, 16, 64], "hold_s": 5}))


@cache
def single_run() -> SyntheticRun:
    """One topology, at one load, without an SLO and without telemetry."""
    servers = {"tp4": saturating(itl_ms=10, users_at_double=16, ttft_ms=40)}
    return simulate(servers, plan_of(servers, load={"steps": [16]}))


@cache
def aborted_run() -> SyntheticRun:
    """Ended during the second topology: of tp4 two steps, of tp2x2 none."""
    run = mixed_run()
    first = run.run.visits[0]
    record = replace(
        run.run,
        visits=(replace(first, steps=first.steps[:2], server_after=None, drained=False),),
        ending=Ending.TOPOLOGY_FAILED,
        ending_message="tp2x2: engine0 died",
    )
    rows = tuple(row for row in run.rows if row.visit == first.visit and row.step < 2)
    return replace(run, run=record, rows=rows).recounted()


def summary_of(run: SyntheticRun) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(summary_json(run.summary()), allow_nan=False))
    return values


def run_values(run: SyntheticRun) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(run.run)))
    return values


@cache
def _mixed_text() -> str:
    return json.dumps(summary_of(mixed_run()))


def mixed_summary() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(_mixed_text())
    return values


def empty_summary() -> dict[str, Any]:
    run = mixed_run()
    return summary_of(replace(run, rows=(), run=replace(run.run, visits=())))
