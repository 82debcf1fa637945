"""The summary's parts as plain values: the contract of summary.json, schema 1.

Every estimate is `{value, low, high, n}` (with `findings` where it has any), null where unknown. Latencies are ms.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

import numpy as np

from loadstair.analysis.comparison.compare import Comparison, claim
from loadstair.analysis.staircase.capacity import Capacity
from loadstair.analysis.staircase.energy import Energy, StepEnergy
from loadstair.analysis.staircase.failure_point import FailurePoint
from loadstair.analysis.staircase.foretold import Foretold
from loadstair.analysis.staircase.full_batch import FEW_LOADS as FEW_LOADS_TO_FILL
from loadstair.analysis.staircase.full_batch import FullBatchFit
from loadstair.analysis.staircase.piecewise import FEW_LOADS as FEW_LOADS_TO_BEND
from loadstair.analysis.staircase.piecewise import PiecewiseFit
from loadstair.analysis.staircase.timeline import Timeline
from loadstair.analysis.staircase.usl import FEW_LOADS, UslFit
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.meanwhile import Meanwhile
from loadstair.analysis.step.measure import METRICS, VisitStep
from loadstair.analysis.step.pool import JudgedStep, LoadStep, latency_estimates
from loadstair.analysis.thresholds import ThresholdResult
from loadstair.plan.model import Gpus, Workload
from loadstair.samples.runrecord import PredictedStep
from loadstair.units import NS_PER_MS

Values = dict[str, object]


def estimate_values(estimate: Estimate) -> Values:
    values: Values = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    if estimate.findings:
        values["findings"] = [finding_values(finding) for finding in estimate.findings]
    return values


def finding_values(finding: Finding) -> Values:
    return {"id": finding.id, "severity": str(finding.severity), "message": finding.message}


def threshold_values(result: ThresholdResult) -> Values:
    return {"text": result.text, "status": str(result.status), "value": result.value, "message": result.message}


def timeline_values(one: Timeline | None) -> Values | None:
    """As `Timeline` has it; null where the topology was never measured."""
    return None if one is None else asdict(one)


def workload_values(workload: Workload) -> dict[str, object]:
    """What was asked for; lengths in tokens."""
    return {
        "endpoint": str(workload.endpoint),
        "model": workload.model,
        "input_tokens": {"mean": workload.input_tokens.mean, "cv": workload.input_tokens.cv},
        "output_tokens": {"mean": workload.output_tokens.mean, "cv": workload.output_tokens.cv},
    }


def topology_values(
    steps: Sequence[LoadStep],
    capacity: Capacity,
    gpus: Gpus | None,
    energy: Energy,
    physical_ceilings: Mapping[float, float],
    failure: FailurePoint | None,
    predicted: Foretold,
) -> Values:
    return {
        "gpus": None if gpus is None else gpus.model_dump(mode="json"),
        "steps": [
            {
                **_step_values(step, energy.at(step.load)),
                "physical_ceiling_tokens_per_s": physical_ceilings.get(step.load),
                "predicted": _predicted_values(predicted.get(step.load)),
            }
            for step in steps
        ],
        "capacity": {
            **_capacity_values(capacity),
            "failure_load": None if failure is None else failure.load,
            "failure_kind": None if failure is None else str(failure.kind),
            "failure_message": None if failure is None else failure.message,
            "output_tokens_per_joule": estimate_values(energy.at(capacity.saturation_load).estimate()),
            "findings": [finding_values(finding) for finding in (*capacity.findings, *energy.findings)],
        },
    }


def _predicted_values(step: PredictedStep | None) -> Values:
    """Null where nothing was foretold."""
    return {
        "output_tokens_per_s": None if step is None else step.output_tokens_per_s,
        "ttft_ms_p50": None if step is None else step.ttft_ms_p50,
    }


def _step_values(step: LoadStep, energy: StepEnergy) -> Values:
    values: Values = {
        "load": step.load,
        "verdict": "valid" if step.valid else "invalid",
        "reasons": [finding_values(finding) for finding in step.reasons],
        "warnings": [finding_values(finding) for finding in step.warnings],
        "output_tokens_per_s": estimate_values(step.tokens.estimate()),
        "requests_per_s": estimate_values(step.completions.estimate()),
        "goodput_rps": estimate_values(Estimate.nothing() if step.good is None else step.good.estimate()),
        "output_tokens_per_joule": estimate_values(energy.estimate()),
        "error_rate": estimate_values(step.error_rate),
        "in_flight_mean": fmean(one.in_flight_mean for one in step.pooled),
    }
    for metric in METRICS:
        values[f"{metric}_ms"] = _latency_values(step, metric)
    if step.latency["ttft_due"].n:
        values["ttft_due_ms"] = _latency_values(step, "ttft_due")
    return {
        **values,
        "slo_met": step.slo_met,
        "slo": [
            {"name": one.name, "limit": one.limit, "share_beyond": one.share_beyond, "met": one.met} for one in step.slo
        ],
        "outcomes": dict(_total([one.outcomes for one in step.pooled])),
        "stalls": _stall_values(step.pooled),
        "stamps": _stamp_values(step.pooled),
        "upstreams": _share_values(_total([one.upstreams for one in step.pooled])),
        "telemetry": {
            **_telemetry_values([one.meanwhile for one in step.pooled]),
            "gpu_power_watts": energy.power_watts,
        },
        "visits": [_visit_values(visit) for visit in step.visits],
    }


def _latency_values(step: LoadStep, metric: str) -> Values:
    return {name: estimate_values(estimate) for name, estimate in latency_estimates(step, metric).items()}


def _visit_values(judged: JudgedStep) -> Values:
    step = judged.step
    ttft, e2e = step.latency_ms["ttft"].values, step.latency_ms["e2e"].values
    return {
        "visit": step.visit.visit,
        "repeat": step.visit.repeat,
        "step": step.record.step,
        "role": str(step.record.role),
        "verdict": "valid" if judged.valid else "invalid",
        "findings": [finding_values(finding) for finding in judged.findings],
        "hold_start_ns": step.window.start_ns,
        "hold_end_ns": step.window.end_ns,
        "output_tokens_per_s": step.tokens.mean,
        "requests_per_s": step.completions.mean,
        "ttft_ms_p50": float(np.median(ttft)) if len(ttft) else None,
        "e2e_ms_p50": float(np.median(e2e)) if len(e2e) else None,
        "outcomes": dict(step.outcomes),
        "workers": list(step.record.workers),
    }


def _stall_values(steps: Sequence[VisitStep]) -> Values:
    longest = [step.stalls.longest_ns for step in steps if step.stalls.longest_ns is not None]
    return {
        "count": sum(step.stalls.count for step in steps),
        "requests": sum(step.stalls.requests for step in steps),
        "longest_ms": max(longest) / NS_PER_MS if longest else None,
    }


def _stamp_values(steps: Sequence[VisitStep]) -> Values:
    chunks = sum(step.stamping.chunks for step in steps)
    lags = [step.stamping.read_lag_ns_p99 for step in steps if step.stamping.read_lag_ns_p99 is not None]
    return {
        "chunks": chunks,
        "bunched_share": sum(step.stamping.bunched for step in steps) / chunks if chunks else None,
        "bunched_late_share": sum(step.stamping.bunched_late for step in steps) / chunks if chunks else None,
        "read_lag_ms_p99": max(lags) / NS_PER_MS if lags else None,
        "clocks": sorted({clock for step in steps for clock in step.stamping.clocks}),
    }


def _telemetry_values(windows: Sequence[Meanwhile]) -> Values:
    """Means over the visits, the maximum for memory."""
    memory = [one.gpu_memory_used_bytes_max for one in windows if one.gpu_memory_used_bytes_max is not None]
    return {
        "requests_running": _mean([one.requests_running for one in windows]),
        "requests_waiting": _mean([one.requests_waiting for one in windows]),
        "kv_usage": _mean([one.kv_usage for one in windows]),
        "preemptions": _mean([one.preemptions for one in windows]),
        "generator_cpu_percent": _mean([one.generator_cpu_percent for one in windows]),
        "host_cpu_percent": _mean([one.host_cpu_percent for one in windows]),
        "gpu_memory_used_bytes_max": max(memory, default=None),
    }


def _capacity_values(one: Capacity) -> Values:
    return {
        "output_tokens_per_s": estimate_values(one.output_tokens_per_s),
        "requests_per_s": estimate_values(one.requests_per_s),
        "goodput_rps": estimate_values(one.goodput_rps),
        "saturation_load": one.saturation_load,
        "goodput_load": one.goodput_load,
        "knee_load": one.knee_load,
        "knee": estimate_values(one.fits.knee()),
        "fit": one.fits.best(),
        "usl": _law_values(one.fits.usl, "contention coherency knee_load peak_load peak_tokens_per_s", FEW_LOADS),
        "full_batch": _law_values(one.fits.full_batch, "contention full_load knee_load", FEW_LOADS_TO_FILL),
        "piecewise": _law_values(one.fits.piecewise, "slope_below slope_above knee_load", FEW_LOADS_TO_BEND),
        "latency_doubling_load": one.latency_doubling_load,
        "slo_capacity_load": one.slo_capacity_load,
        "slo_capacity": estimate_values(one.slo_capacity),
        "slo_violated_load": one.slo_violated_load,
        "recommended_load": one.recommended_load,
        "output_tokens_per_s_per_gpu": estimate_values(one.output_tokens_per_s_per_gpu),
        "usd_per_million_output_tokens": estimate_values(one.usd_per_million_output_tokens),
        "usd_per_million_requests": estimate_values(one.usd_per_million_requests),
        "findings": [finding_values(finding) for finding in one.findings],
    }


def _law_values(law: UslFit | FullBatchFit | PiecewiseFit | None, names: str, few_loads: Finding) -> Values:
    """`names`: of its estimates; `few_loads` says why there is no law."""
    findings = (few_loads,) if law is None else law.findings if isinstance(law, UslFit) else ()
    return {
        **{name: estimate_values(Estimate.nothing() if law is None else getattr(law, name)) for name in names.split()},
        "misfit": None if law is None else law.misfit,
        "findings": [finding_values(finding) for finding in findings],
    }


def comparison_values(one: Comparison) -> Values:
    return {
        "first": one.first,
        "other": one.other,
        "throughput_ratio": _ratio_values(one.throughput_ratio),
        "goodput_ratio": _ratio_values(one.goodput_ratio),
        "throughput_per_gpu_ratio": _ratio_values(one.throughput_per_gpu_ratio),
        "usd_per_million_output_tokens_ratio": _ratio_values(one.usd_per_million_output_tokens_ratio),
        "output_tokens_per_joule_ratio": _ratio_values(one.output_tokens_per_joule_ratio),
        "steps": [
            {
                "load": step.load,
                "throughput_ratio": _ratio_values(step.throughput_ratio),
                "requests_ratio": _ratio_values(step.requests_ratio),
                "ttft_p50_ratio": _ratio_values(step.ttft_p50_ratio),
                "itl_p50_ratio": _ratio_values(step.itl_p50_ratio),
                "e2e_p50_ratio": _ratio_values(step.e2e_p50_ratio),
                "throughput_per_gpu_ratio": _ratio_values(step.throughput_per_gpu_ratio),
                "usd_per_million_output_tokens_ratio": _ratio_values(step.usd_per_million_output_tokens_ratio),
                "output_tokens_per_joule_ratio": _ratio_values(step.output_tokens_per_joule_ratio),
            }
            for step in one.steps
        ],
        "throughput_crossover_load": estimate_values(one.throughput_crossover_load),
        "latency_crossover_load": estimate_values(one.latency_crossover_load),
        "caveat": one.caveat,
        "unequal": one.unequal,
        "findings": [finding_values(finding) for finding in one.findings],
    }


def _ratio_values(estimate: Estimate) -> Values:
    """With `claim`: "higher", "lower", or null inside the noise."""
    return {**estimate_values(estimate), "claim": claim(estimate)}


def _total(counts: Sequence[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _share_values(counts: Counter[str]) -> Values:
    total = counts.total()
    return {name: count / total for name, count in sorted(counts.items())}


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return fmean(told) if told else None
