"""results.json: one flat record for each topology and load, in the test-matrix format."""

from statistics import fmean

from loadstair.analysis.matrix.values import matrix_records
from loadstair.analysis.shape.spike import SURGE
from loadstair.analysis.step.pool import LoadStep
from loadstair.analysis.summary import Summary
from loadstair.plan.model import LoadMode, LoadShape

BYTES_PER_MB = 1e6


def results_json(summary: Summary) -> list[dict[str, object]]:
    """Invalid steps are listed too: `errors` then carries the reasons. A forecast's ids end in `-predicted`."""
    if summary.matrix is not None:
        return matrix_records(summary.matrix)
    return [
        _record(
            f"{name}-{step.load:g}{_part(step, summary.shape)}{'-predicted' if summary.run.predicted else ''}",
            step,
            summary.mode,
        )
        for name, topology in summary.topologies.items()
        for step in topology.steps
    ]


def _part(step: LoadStep, shape: LoadShape) -> str:
    """What a spike's test is of: its surge is no steady load."""
    if shape is not LoadShape.SPIKE:
        return ""
    return "-surge" if any(visit.step.record.step == SURGE for visit in step.visits) else "-usual"


def _record(test_id: str, step: LoadStep, mode: LoadMode) -> dict[str, object]:
    inputs = [one.input_tokens_mean for one in step.pooled if one.input_tokens_mean is not None]
    asked = [one.output_tokens_asked_max for one in step.pooled if one.output_tokens_asked_max is not None]
    memory = [
        one.meanwhile.gpu_memory_used_bytes_max
        for one in step.pooled
        if one.meanwhile.gpu_memory_used_bytes_max is not None
    ]
    return {
        "test_id": test_id,
        "concurrent_requests": int(step.load) if mode is LoadMode.CLOSED else _in_flight(step),
        "input_tokens": round(fmean(inputs)) if inputs else None,
        "max_output_tokens": max(asked, default=None),
        "results": {
            "avg_ttft_ms": _mean(step, "ttft"),
            "avg_tpot_ms": _mean(step, "tpot"),
            "avg_total_latency_ms": _mean(step, "e2e"),
            "throughput_tokens_per_sec": step.tokens.value,
            "peak_memory_mb": max(memory) / BYTES_PER_MB if memory else None,
            "success_rate": None if step.error_rate.value is None else 1 - step.error_rate.value,
            "errors": [*(finding.message for finding in step.reasons), *_failures(step)],
        },
    }


def _in_flight(step: LoadStep) -> float:
    """In an open loop the load is a rate; how many were under way at a time is what was seen."""
    return round(fmean(one.in_flight_mean for one in step.pooled), 2)


def _mean(step: LoadStep, metric: str) -> float | None:
    mean = step.latency[metric].mean
    return None if mean is None else mean.value


def _failures(step: LoadStep) -> list[str]:
    totals: dict[str, int] = {}
    for one in step.pooled:
        for outcome, count in one.outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return [f"{outcome}: {count}" for outcome, count in totals.items() if count and outcome not in ("ok", "killed")]
