"""The flags of simulated engines: what each takes, and what it needs beside it."""

from pathlib import Path

import pytest

from loadstair.errors import PlanError
from loadstair.plan.flags import POOL_FLAGS, SIMULATED_FLAGS, flag_problems, option_words
from loadstair.plan.parse import read_plan
from loadstair.simserver.options import parse_options

RIGHT = {
    "max_num_seqs": 8,
    "max_num_batched_tokens": 2048,
    "block_size": 32,
    "max_model_len": 1000,
    "max_num_queued_reqs": 100,
    "num_speculative_tokens": 3,
    "max_loras": 2,
    "gpu_memory_utilization": 0.8,
    "gpu_share": 0.5,
    "enable_prefix_caching": True,
    "enable_prompt_tokens_details": False,
    "scheduling_policy": "priority",
    "speed": 0.5,
    "acceptance_rate": 0.7,
    "draft_cost": 0,
    "lora_modules": "sql chat",
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "kv_role": "kv_producer",
    "kv_transfer_gb_per_s": 50,
}


def test_every_flag_has_a_right_value_and_is_an_option_of_the_engine():
    assert set(RIGHT) == set(SIMULATED_FLAGS)
    assert list(flag_problems(RIGHT, "engine")) == []
    words = option_words(RIGHT)
    assert len(words) == 2 * (len(RIGHT) - len(POOL_FLAGS)) - 2  # two are switches
    options = parse_options(["--model", "Qwen/Qwen2.5-32B-Instruct", "--gpu", "h100-nvl", "--tp", "2", *words])
    assert options.scheduler.gpu_share == 0.5


@pytest.mark.parametrize(
    ("flags", "path", "message"),
    [
        ({"max_num_queued_reqs": 0}, "max_num_queued_reqs", "must be a number above 0, not 0"),
        ({"max_loras": 1.5, "lora_modules": "sql"}, "max_loras", "must be a whole number, not 1.5"),
        ({"gpu_share": 1.5}, "gpu_share", "is a share of the GPU's time, at most 1, not 1.5"),
        ({"speed": "fast"}, "speed", "must be a number above 0, not 'fast'"),
        ({"enable_prefix_caching": 1}, "enable_prefix_caching", "must be true or false, not 1"),
        ({"scheduling_policy": "lifo"}, "scheduling_policy", "must be fcfs or priority, not 'lifo'"),
        ({"lora_modules": " "}, "lora_modules", "must be names with spaces between them"),
        ({"lora_modules": True}, "lora_modules", "must be names with spaces between them"),
        ({"max_loras": 2}, "max_loras", "needs lora_modules beside it"),
        ({"num_speculative_tokens": 2}, "num_speculative_tokens", "needs acceptance_rate beside it"),
        ({"draft_cost": -1, "num_speculative_tokens": 2, "acceptance_rate": 1}, "draft_cost", "at least 0, not -1"),
        ({"kv_transfer_gb_per_s": 50}, "kv_transfer_gb_per_s", "needs kv_role beside it"),
        ({"acceptance_rate": 70, "num_speculative_tokens": 2}, "acceptance_rate", "at most 1, not 70"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(flags, path, message):
    (problem,) = flag_problems(flags, "topologies[0].engines[0]")
    assert problem.path == f"topologies[0].engines[0].flags.{path}"
    assert message in problem.message


def plan_with_engines(tmp_path: Path, engines: str, steps: str = "[1]") -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: shared\n"
        "workload: {model: meta-llama/Llama-3.1-8B-Instruct, input_tokens: 64, output_tokens: 16}\n"
        f"load: {{steps: {steps}, hold_s: 5}}\n"
        "topologies:\n"
        "- name: shared\n"
        "  kind: simulated\n"
        "  gpus: {type: h100-sxm, count: 1}\n"
        f"  engines: {engines}\n"
        "  balancer: {kind: nginx}\n"
    )
    return path


def test_engines_may_share_a_gpu_when_its_time_and_memory_suffice(tmp_path):
    half = "{tp: 1, flags: {gpu_share: 0.5, gpu_memory_utilization: 0.45}}"
    plan = read_plan(plan_with_engines(tmp_path, f"[{half}, {half}]"))
    assert len(plan.topologies[0].engines) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("{gpu_memory_utilization: 0.4}", "use 2 GPUs, but gpus.count is 1"),
        ("{gpu_share: 0.5}", "want the memory of 1.8, but gpus.count is 1"),
    ],
)
def test_engines_that_want_more_than_a_gpu_has_are_refused(tmp_path, flags, message):
    with pytest.raises(PlanError, match=message):
        read_plan(plan_with_engines(tmp_path, f"[{{flags: {flags}}}, {{flags: {flags}}}]"))


def test_a_slow_engine_needs_a_longer_hold(tmp_path):
    with pytest.raises(PlanError, match="shorter than one expected request"):
        read_plan(plan_with_engines(tmp_path, "[{flags: {speed: 0.01}}]"))
