"""The engine's command line: mistakes are one line that says what would be right."""

import pytest

from loadstair.errors import UsageError
from loadstair.simserver.options import parse_options

ENGINE = ("--model", "Qwen/Qwen2.5-32B-Instruct", "--gpu", "h100-nvl")


def test_the_link_is_the_gpus_unless_given():
    assert parse_options([*ENGINE]).link == "nvlink_pairs"
    assert parse_options([*ENGINE, "--link", "pcie5"]).link == "pcie5"


def test_clients_use_the_model_name_as_it_was_given_unless_another_is_served():
    assert parse_options(["--model", "qwen2.5-32b-instruct", "--gpu", "h100-nvl"]).served_model_name == (
        "qwen2.5-32b-instruct"
    )
    assert parse_options([*ENGINE, "--served-model-name", "chat"]).served_model_name == "chat"


def test_the_context_is_the_models_as_far_as_the_cache_holds_it():
    assert parse_options([*ENGINE, "--tp", "2"]).max_model_len == 32768
    small = parse_options([*ENGINE, "--tp", "1", "--gpu-memory-utilization", "0.75"])
    assert small.max_model_len == small.scheduler.kv_tokens < 32768


def test_fp8_leaves_more_room_and_fp8_keys_and_values_take_half_of_it():
    bf16, weights, both = (
        parse_options([*ENGINE, *options]).scheduler.kv_tokens
        for options in ([], ["--quantization", "fp8"], ["--quantization", "fp8", "--kv-cache-dtype", "fp8"])
    )
    assert bf16 < weights
    assert both == pytest.approx(2 * weights, abs=32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/such", "--gpu", "h100-nvl"], "--model no/such: not in the catalogue; known: Qwen/"),
        (["--model", "Qwen/Qwen2.5-32B-Instruct", "--gpu", "h9"], "--gpu h9: not in the catalogue; known: rtx-3090"),
        ([*ENGINE, "--tp", "3"], "40 attention heads, which tp=3 does not divide"),
        ([*ENGINE, "--gpu-memory-utilization", "90"], "must lie in (0, 1]"),
        ([*ENGINE, "--max-num-seqs", "0"], "must be at least 1"),
        ([*ENGINE, "--block-size", "0"], "must be at least 1"),
        ([*ENGINE, "--speed", "0"], "speed must be above 0"),
        ([*ENGINE, "--max-model-len", "999999999"], "what the KV cache holds"),
        ([*ENGINE, "--num-speculative-tokens", "3"], "belong together: give both"),
        ([*ENGINE, "--draft-cost", "0.1"], "needs --num-speculative-tokens"),
        ([*ENGINE, "--num-speculative-tokens", "3", "--acceptance-rate", "70"], "acceptance_rate must lie in [0, 1]"),
        ([*ENGINE, "--max-loras", "2"], "needs --lora-modules"),
        ([*ENGINE, "--lora-modules", "sql", "--max-loras", "0"], "max_loras must be at least 1"),
        ([*ENGINE, "--max-num-queued-reqs", "0"], "max_num_queued_reqs must be at least 1"),
        ([*ENGINE, "--scheduling-policy", "lifo"], "--scheduling-policy: invalid choice: 'lifo'"),
        ([*ENGINE, "--gpu-share", "2"], "gpu_share must lie in (0, 1]"),
        ([*ENGINE, "--quantization", "fp7"], "'fp7' is no weight format of the model: bf16, fp8 or int4"),
        ([*ENGINE, "--fault", "boom"], "'boom' is no fault"),
        ([*ENGINE, "--port", "x"], "--port"),
        (["--model", "meta-llama/Llama-3.1-405B-Instruct", "--gpu", "l40s"], "leaves no memory for a KV cache on l40s"),
    ],
)
def test_a_mistake_says_where_and_what_would_be_right(arguments, message):
    with pytest.raises(UsageError) as error:
        parse_options(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_drafts_take_their_room_from_the_longest_request():
    arguments = [*ENGINE, "--tp", "1", "--gpu-memory-utilization", "0.75"]
    plain = parse_options(arguments)
    drafting = parse_options([*arguments, "--num-speculative-tokens", "4", "--acceptance-rate", "0.7"])
    assert drafting.max_model_len == plain.max_model_len - 4


def test_all_features_are_off_unless_asked_for():
    config = parse_options([*ENGINE, "--tp", "2"]).scheduler
    assert (config.policy, config.prefix_caching, config.max_num_queued_reqs) == ("fcfs", False, None)
    assert (config.speculation, config.loras, config.gpu_share, config.speed) == (None, None, 1.0, 1.0)
