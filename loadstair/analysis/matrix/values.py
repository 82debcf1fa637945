"""A matrix run as plain values: `matrix` in summary.json, and results.json. Latencies are ms."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from loadstair.analysis.matrix.answers import Answer, Answers, answers
from loadstair.analysis.matrix.table import Bursts, MatrixResult, TestResult, matrix_result
from loadstair.analysis.statistics.bootstrap import Measured
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.pool import JudgedStep
from loadstair.analysis.summary_values import Values, estimate_values, finding_values
from loadstair.plan.model import Lengths, Matrix
from loadstair.samples.frame import Samples
from loadstair.samples.runrecord import RunRecord

BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSummary:
    """By topology, in the plan's order."""

    matrix: Matrix
    results: Mapping[str, MatrixResult]
    answers: Mapping[str, tuple[Answers, ...]]

    @property
    def topologies_without_valid_test(self) -> tuple[str, ...]:
        return tuple(name for name, result in self.results.items() if not result.has_valid_test)

    @property
    def advice(self) -> str:
        return " ".join(_sentence(name, one) for name, told in self.answers.items() for one in told)

    @property
    def findings(self) -> tuple[Finding, ...]:
        runs = self.matrix.runs
        return (
            Finding.info(
                "matrix.bursts",
                f"each test is {runs} burst{'s' * (runs > 1)} whose requests begin together: its latency holds the "
                "queue that they make for each other, its throughput a ramp and an end; a staircase holds a load",
            ),
            *([] if runs > 1 else [Finding.warning("matrix.one_run", "one run: no intervals; set matrix.runs: 3")]),
        )


def matrix_summary(
    matrix: Matrix,
    judged: Mapping[str, list[JudgedStep]],
    samples: Samples,
    run: RunRecord,
    rng: np.random.Generator,
) -> MatrixSummary:
    results = {name: matrix_result(matrix, steps, samples, run, rng) for name, steps in judged.items()}
    return MatrixSummary(
        matrix=matrix,
        results=results,
        answers={name: answers(matrix, result, rng) for name, result in results.items()},
    )


def matrix_values(summary: MatrixSummary) -> Values:
    return {
        name: {
            "tests": [_test_values(one) for one in result.tests],
            "baselines": [_baseline_values(label, one) for label, one in result.baselines.items()],
            "answers": [_answers_values(one) for one in summary.answers[name]],
            "findings": [finding_values(finding) for finding in summary.findings],
        }
        for name, result in summary.results.items()
    }


def matrix_records(summary: MatrixSummary) -> list[dict[str, object]]:
    """results.json; with several topologies an id begins with the topology's name."""
    several = len(summary.results) > 1
    return [
        _record(f"{name}-{one.test.id}" if several else one.test.id, one)
        for name, result in summary.results.items()
        for one in result.tests
    ]


def _test_values(one: TestResult) -> Values:
    bursts = one.bursts
    return {
        "id": one.test.id,
        "users": one.test.users,
        "input_tokens": one.test.input_tokens.mean,
        "output_tokens": one.test.output_tokens.mean,
        "verdict": bursts.verdict,
        "status": None if one.status is None else str(one.status),
        "reasons": [finding_values(finding) for finding in bursts.reasons],
        "notes": list(one.notes),
        "errors": [{"kind": str(f.kind), "requests": f.requests, "message": f.message} for f in one.failures],
        "runs": len(bursts.judged),
        "duration_s": sum(burst.step.window.duration_s for burst in bursts.judged),
        "requests": bursts.requests,
        "answered": bursts.answered,
        "success_rate": _success_rate(bursts),
        "slowest_ms": bursts.slowest_ms,
        "output_tokens_asked_max": _output_asked(bursts),
        "gpu_memory_used_bytes_max": _memory_bytes(bursts),
        **_estimates(bursts),
        "latency_ratio": estimate_values(one.latency_ratio),
    }


def _baseline_values(label: str, one: Bursts) -> Values:
    return {
        "label": label,
        "verdict": one.verdict,
        "reasons": [finding_values(finding) for finding in one.reasons],
        "input_tokens": _input_mean(one),
        "output_tokens": _output_asked(one),
        "requests": one.requests,
        **_estimates(one),
    }


def _estimates(bursts: Bursts) -> Values:
    return {
        **{f"{metric}_ms": _estimate(number) for metric, number in bursts.means.items()},
        "output_tokens_per_s": _estimate(bursts.tokens_per_s),
    }


def _estimate(number: Measured | None) -> Values:
    return estimate_values(Estimate.nothing() if number is None else number.estimate())


def _answers_values(one: Answers) -> Values:
    return {
        "input_tokens": one.input_tokens.mean,
        "output_tokens": one.output_tokens.mean,
        "out_of_memory": _answer_values(one.out_of_memory),
        "latency_doubles": _answer_values(one.latency_doubles),
        "saturates": _answer_values(one.saturates),
        "recommended": _answer_values(one.recommended),
    }


def _answer_values(one: Answer) -> Values:
    return {"users": one.users, "test": one.test, "certain": one.certain, "words": one.words}


def _record(test_id: str, one: TestResult) -> dict[str, object]:
    bursts = one.bursts
    memory = _memory_bytes(bursts)
    return {
        "test_id": test_id,
        "concurrent_requests": one.test.users,
        "input_tokens": round(one.test.input_tokens.mean),
        "max_output_tokens": _output_asked(bursts) or _longest(one.test.output_tokens),
        "results": {
            "avg_ttft_ms": _value(bursts.means["ttft"]),
            "avg_tpot_ms": _value(bursts.means["tpot"]),
            "avg_total_latency_ms": _value(bursts.means["e2e"]),
            "throughput_tokens_per_sec": _value(bursts.tokens_per_s),
            "peak_memory_mb": None if memory is None else memory / BYTES_PER_MB,
            "success_rate": _success_rate(bursts),
            "errors": [
                *(finding.message for finding in bursts.reasons),
                *(f"{failure.kind}: {failure.requests} × {failure.message}" for failure in one.failures),
            ],
        },
    }


def _longest(lengths: Lengths) -> int | None:
    """What a server may be asked for at most, where nothing was measured."""
    return round(lengths.mean) if lengths.cv == 0 else lengths.max


def _value(number: Measured | None) -> float | None:
    return None if number is None else number.value


def _success_rate(bursts: Bursts) -> float | None:
    return bursts.answered / bursts.requests if bursts.requests else None


def _output_asked(bursts: Bursts) -> int | None:
    asked = [one.step.output_tokens_asked_max for one in bursts.judged]
    return max((tokens for tokens in asked if tokens is not None), default=None)


def _input_mean(bursts: Bursts) -> float | None:
    told = [one.step.input_tokens_mean for one in bursts.judged if one.step.input_tokens_mean is not None]
    return fmean(told) if told else None


def _memory_bytes(bursts: Bursts) -> float | None:
    seen = [one.step.meanwhile.gpu_memory_used_bytes_max for one in bursts.judged]
    return max((used for used in seen if used is not None), default=None)


def _sentence(topology: str, one: Answers) -> str:
    lengths = f"{one.input_tokens.mean:g} in / {one.output_tokens.mean:g} out"
    return (
        f"{topology}, {lengths}: recommended {one.recommended.words}; latency doubles: {one.latency_doubles.words}; "
        f"throughput saturates: {one.saturates.words}; out of memory: {one.out_of_memory.words}."
    )
