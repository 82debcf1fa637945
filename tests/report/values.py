"""Summaries as the report reads them: through JSON, from runs with a known truth."""

import json
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from loadstair.analysis.summary import summary_json
from tests.analysis.synthetic import SyntheticRun, two_topologies


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
    return run.with_rows(
        lambda row: replace(row, bunched=3, bunched_late=3) if row.load == 64 and row.topology == "tp4" else row,
    )


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
