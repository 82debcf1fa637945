"""Scheduler and step model together, in simulated time, against published measurements and another model."""

from dataclasses import replace
from statistics import mean, median

import pytest

from loadstair.serving.formats import Formats
from loadstair.serving.memory import memory_budget
from loadstair.serving.steptime import FITTED, StepModel, throughput_closed_form
from loadstair.simserver.closedloop import ClosedLoopResult, Lengths, RequestTrace, run_closed_loop
from loadstair.simserver.scheduler import Scheduler, SchedulerConfig
from loadstair.units import NS_PER_MS, ns_from_s
from tests.serving.known import gpu, model
from tests.serving.reference import published, reference_staircase
from tests.simserver.lengths import lognormal_lengths

QWEN, LLAMA = model("Qwen/Qwen2.5-32B-Instruct"), model("meta-llama/Llama-3.3-70B-Instruct")
FP8 = Formats(weights="fp8", kv="fp8")


def run(
    config: SchedulerConfig, lengths: Lengths, *, engines: int, users: int, mean_lengths: tuple[int, int], rounds: int
) -> ClosedLoopResult:
    """Two requests of every user to warm up, then so many rounds."""
    input_tokens, output_tokens = mean_lengths
    admitted = min(users / engines, config.max_num_seqs, config.kv_tokens / (input_tokens + output_tokens / 2))
    of_one = throughput_closed_form(
        config.step_model, concurrent=admitted, input_tokens=input_tokens, output_tokens=output_tokens
    )
    request_ns = ns_from_s(users * output_tokens / (engines * of_one))
    return run_closed_loop(
        tuple(Scheduler(config) for _ in range(engines)),
        users=users,
        lengths=lengths,
        window_start_ns=2 * request_ns,
        window_end_ns=(2 + rounds) * request_ns,
        user_gap_ns=request_ns // users,
    )


def ttft_ms(result: ClosedLoopResult) -> list[float]:
    return [(trace.token_ns[0] - trace.sent_ns) / NS_PER_MS for trace in result.traces if in_window(trace, result)]


def itl_ms(result: ClosedLoopResult) -> float:
    gaps = [
        (trace.token_ns[-1] - trace.token_ns[0]) / NS_PER_MS / (len(trace.token_ns) - 1)
        for trace in result.traces
        if in_window(trace, result)
    ]
    return median(gaps)


def in_window(trace: RequestTrace, result: ClosedLoopResult) -> bool:
    return result.window_start_ns <= trace.sent_ns < result.window_end_ns


NIM_TOLERANCE = {
    1: (0.04, 0.04),
    5: (0.04, 0.04),
    25: (0.04, 0.06),
    50: (0.06, 0.09),
    100: (0.08, 0.04),
    150: (0.08, 0.04),
}
"""Of tokens a second, and of the inter-token latency, by concurrency."""


@pytest.mark.parametrize("concurrency", NIM_TOLERANCE)
def test_llama_70b_in_fp8_on_two_h100_is_as_nvidia_measured_it(concurrency):
    """The engine is TensorRT-LLM: 0.65 of the FP8 peak, and it admits only what the KV cache holds to its end."""
    nim, h100 = published("nim"), gpu("h100-sxm")
    row = next(row for row in nim["rows"] if row["concurrency"] == concurrency)
    tokens_error, itl_error = NIM_TOLERANCE[concurrency]
    room = memory_budget(LLAMA, h100, 2, formats=FP8).kv_tokens
    longest = nim["input_tokens"] + nim["output_tokens"]
    config = SchedulerConfig(
        step_model=StepModel(LLAMA, h100, 2, "nvswitch", formats=FP8, efficiencies=replace(FITTED, fp8_gemm_peak=0.65)),
        kv_tokens=room,
        max_num_seqs=room // longest,
    )
    result = run(
        config,
        lambda _: (nim["input_tokens"], nim["output_tokens"]),
        engines=1,
        users=concurrency,
        mean_lengths=(nim["input_tokens"], nim["output_tokens"]),
        rounds=4,
    )
    assert result.output_tokens_per_s() == pytest.approx(row["output_tokens_per_s"], rel=tokens_error)
    assert itl_ms(result) == pytest.approx(row["itl_ms"], rel=itl_error)
    if concurrency == 1:
        assert mean(ttft_ms(result)) == pytest.approx(row["ttft_ms"], rel=0.05)
    elif concurrency >= 100:  # beyond what the KV cache holds they wait
        assert mean(ttft_ms(result)) == pytest.approx(row["ttft_ms"], rel=0.35)


def staircase_rows() -> list[dict[str, object]]:
    """Every topology and length, below the knee, near it and beyond."""
    return [row for row in reference_staircase() if row["users"] in (4, 64, 256)]


@pytest.mark.parametrize(
    "row",
    staircase_rows(),
    ids=lambda row: f"{row['gpu']}-{row['input']}-{row['engines']}xTP{row['tp']}-{row['users']}",
)
def test_the_staircase_of_another_model_is_climbed_within_5_percent(row):
    config = SchedulerConfig(
        step_model=StepModel(QWEN, gpu(row["gpu"]), row["tp"], row["link"]), kv_tokens=row["kv_tokens"]
    )
    result = run(
        config,
        lognormal_lengths(row["input"], row["output"], seed=5),
        engines=row["engines"],
        users=row["users"],
        mean_lengths=(row["input"], row["output"]),
        rounds=12 if row["users"] == 4 else 3,
    )
    assert result.output_tokens_per_s() == pytest.approx(row["output_tokens_per_s"], rel=0.05)


@pytest.mark.parametrize(
    ("gpu_name", "tp", "link", "users", "lengths"),
    [
        ("h100-sxm", 4, "nvswitch", 128, (2048, 512)),
        ("h100-sxm", 2, "nvswitch", 16, (2048, 512)),
        ("h100-nvl", 2, "nvlink_pairs", 64, (2048, 512)),
        ("h100-nvl", 2, "nvlink_pairs", 128, (512, 256)),
    ],
)
def test_a_budget_of_512_tokens_is_not_free(gpu_name, tp, link, users, lengths):
    def tokens_per_s(budget: int) -> float:
        config = SchedulerConfig(
            step_model=StepModel(QWEN, gpu(gpu_name), tp, link),
            kv_tokens=memory_budget(QWEN, gpu(gpu_name), tp).kv_tokens,
            max_num_batched_tokens=budget,
        )
        drawn = lognormal_lengths(*lengths, seed=5)
        return run(config, drawn, engines=1, users=users, mean_lengths=lengths, rounds=3).output_tokens_per_s()

    assert tokens_per_s(512) < 1.005 * min(tokens_per_s(2048), tokens_per_s(8192))
