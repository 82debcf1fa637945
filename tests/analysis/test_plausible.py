"""Claims that the memory's bandwidth allows, and claims that it does not."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.statistics.estimate import Finding, Severity
from loadstair.analysis.step.measure import VisitStep, measure_visit
from loadstair.analysis.step.plausible import StepCeiling, judge_plausible, step_ceiling
from loadstair.analysis.summary import summary_json
from loadstair.plan.model import Plan
from loadstair.samples.record import RequestSample
from tests.analysis.synthetic import Server, SyntheticRun, plan_of, simulate

BF16 = {"dtype": "bfloat16"}


def run_at(
    model: str,
    tokens_per_s: float,
    *,
    users: int = 1,
    gpu: str = "rtx-5090",
    count: int = 1,
    engines: list[Mapping[str, object]] | None = None,
    kind: str = "external",
    **workload: object,
) -> SyntheticRun:
    """Each user gets so many tokens a second, after hardly any time to the first: 256 of them, for 64 in."""
    server = Server(ttft_ms=lambda _: 1e3 / tokens_per_s, itl_ms=lambda _: 1e3 / tokens_per_s, noise=0.01)
    topology: dict[str, object] = {"name": "one", "kind": kind, "gpus": {"type": gpu, "count": count}}
    if kind == "external":
        topology["url"] = "http://127.0.0.1:1"
    topology["engines"] = [{"tp": 1, "flags": BF16}] if engines is None else engines
    lengths = {"input_tokens": 64, "output_tokens": {"mean": 256, "cv": 0.1}}
    plan = plan_of(
        {"one": server},
        workload={"model": model, **lengths, **workload},
        load={"steps": [users], "hold_s": 12},
        topologies=[topology],
    )
    return simulate({"one": server}, plan)


def measured(run: SyntheticRun) -> VisitStep:
    return measure_visit(run.run.visits[0], run.samples, run.telemetry, None)[0]


def judged(run: SyntheticRun) -> list[Finding]:
    return list(judge_plausible(measured(run), run.plan))


def verdict(run: SyntheticRun) -> dict[str, Severity]:
    return {finding.id: finding.severity for finding in judged(run)}


def ceiling(run: SyntheticRun, plan: Plan | None = None) -> StepCeiling | None:
    plan = plan or run.plan
    return step_ceiling(measured(run), plan.topologies[0], plan.workload)


def test_a_published_single_stream_above_the_bandwidth_is_flagged_with_both_figures() -> None:
    run = run_at("01-ai/Yi-6B-Chat", 210)
    assert verdict(run)["ceiling.throughput"] is Severity.INVALID
    message = judged(run)[0].message
    # 1792 GB/s over 11.6 GB of weights and 0.018 GB of keys and values: 154 a decode step; the first token needs none.
    assert "above the physical ceiling: 210 output tokens/s were measured, 155 are possible" in message
    assert "1 × tp 1 on rtx-5090, 16-bit weights" in message


def test_a_single_stream_near_its_ceiling_is_possible() -> None:
    run = run_at("Qwen/Qwen2.5-3B-Instruct", 280)  # 97 % of 290
    assert verdict(run) == {}
    told = ceiling(run)
    assert told is not None
    assert told.stream_tokens_per_s == pytest.approx(290, abs=1)


def test_many_streams_share_what_a_step_reads() -> None:
    assert verdict(run_at("01-ai/Yi-6B-Chat", 140, users=8)) == {}  # 1120 tokens/s: 8 × 154 are possible
    told = ceiling(run_at("01-ai/Yi-6B-Chat", 140, users=8))
    assert told is not None
    assert told.output_tokens_per_s == pytest.approx(8 * 154, rel=0.02)


@pytest.mark.parametrize(
    ("flags", "rate", "expected"),
    [
        ({}, 210, Severity.WARNING),  # nobody says what the weights are stored in
        ({"quantization": "fp8"}, 210, None),  # up to 309
        ({"quantization": "awq"}, 400, None),  # up to 618
        ({"quantization": "fp8"}, 400, Severity.INVALID),
        ({**BF16, "speculative_config": "ngram"}, 210, Severity.WARNING),  # several tokens a step
    ],
)
def test_what_the_flags_say_moves_the_ceiling_and_what_they_leave_open_only_warns(
    flags: dict[str, object], rate: float, expected: Severity | None
) -> None:
    run = run_at("01-ai/Yi-6B-Chat", rate, engines=[{"tp": 1, "flags": flags}])
    assert verdict(run).get("ceiling.throughput") is expected


def test_keys_and_values_in_fewer_bits_raise_the_ceiling() -> None:
    def tokens_per_s(kv: str) -> float:
        flags = {**BF16, "kv_cache_dtype": kv}
        at_most = ceiling(run_at("Yi-6B-Chat", 20, users=16, engines=[{"tp": 1, "flags": flags}]))
        assert at_most is not None
        return at_most.output_tokens_per_s

    assert tokens_per_s("auto") < tokens_per_s("fp8") < tokens_per_s("int4")


def test_a_simulated_engine_is_known_to_serve_bf16() -> None:
    simulated = run_at("01-ai/Yi-6B-Chat", 210, kind="simulated", engines=[{"tp": 1}])
    assert verdict(simulated)["ceiling.throughput"] is Severity.INVALID


@pytest.mark.parametrize("flags", [{"num_speculative_tokens": 3, "acceptance_rate": 0.7}, {"speed": 2}])
def test_a_simulated_engine_with_drafts_or_faster_than_its_gpu_may_be_above_the_ceiling(
    flags: dict[str, object],
) -> None:
    simulated = run_at("01-ai/Yi-6B-Chat", 210, kind="simulated", engines=[{"tp": 1, "flags": flags}])
    assert verdict(simulated)["ceiling.throughput"] is Severity.WARNING


def test_engines_that_nobody_describes_may_use_all_gpus_for_one_request() -> None:
    undescribed = ceiling(run_at("01-ai/Yi-6B-Chat", 100, count=2, engines=[]))
    one = ceiling(run_at("01-ai/Yi-6B-Chat", 100))
    assert undescribed is not None
    assert one is not None
    assert undescribed.stream_tokens_per_s == pytest.approx(2 * one.stream_tokens_per_s)
    assert not undescribed.binding


@pytest.mark.parametrize(("model", "gpu"), [("someone/else", "rtx-5090"), ("01-ai/Yi-6B-Chat", "abacus")])
def test_without_model_or_gpu_there_is_no_ceiling(model: str, gpu: str) -> None:
    run = run_at(model, 5000, gpu=gpu)
    assert ceiling(run) is None
    assert verdict(run) == {}


def test_tokens_that_were_held_back_make_a_stream_look_fast_and_only_warn() -> None:
    """All of an answer comes at once, at its end: the throughput is true."""
    run = run_at("01-ai/Yi-6B-Chat", 100)

    def at_its_end(arrivals: list[int]) -> list[int]:
        return (arrivals[-1] - np.arange(len(arrivals))[::-1] * 1000).tolist()

    def held_back(row: RequestSample) -> RequestSample:
        arrivals = at_its_end(list(row.arrivals))
        return replace(row, arrivals=arrivals, first_token_ns=arrivals[0])

    held = run.with_rows(held_back)
    assert verdict(held) == {"ceiling.stream": Severity.WARNING}
    assert "look at proxy buffering" in judged(held)[0].message


def test_prompts_that_must_be_computed_lower_the_ceiling_and_cached_ones_do_not() -> None:
    long_prompts = {"input_tokens": 30_000, "output_tokens": {"mean": 32, "cv": 0.1}}
    salted = ceiling(run_at("Qwen/Qwen2.5-3B-Instruct", 100, users=32, **long_prompts))
    unsalted = ceiling(run_at("Qwen/Qwen2.5-3B-Instruct", 100, users=32, salt=False, **long_prompts))
    assert salted is not None
    assert unsalted is not None
    assert salted.output_tokens_per_s < unsalted.output_tokens_per_s


def test_the_ceiling_stands_in_the_summary_beside_what_was_measured() -> None:
    run = run_at("meta-llama/Llama-3.1-8B-Instruct", 80)
    found = ceiling(run)
    assert found is not None
    (step,) = summary_json(run.summary())["topologies"]["one"]["steps"]
    assert step["physical_ceiling_tokens_per_s"] == pytest.approx(found.output_tokens_per_s)
