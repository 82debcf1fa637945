"""What the weights leave for keys and values."""

import pytest

from loadstair.serving.catalogue import find_gpu, find_model
from loadstair.serving.memory import kv_bytes_per_sequence, kv_bytes_per_token, kv_tokens, weights_bytes
from loadstair.units import GIB

QWEN = find_model("Qwen/Qwen2.5-32B-Instruct")
GEMMA = find_model("google/gemma-3-12b-it")
LLAMA_70B = find_model("meta-llama/Llama-3.1-70B-Instruct")


def test_qwen_32b_weighs_61_gib():
    assert weights_bytes(QWEN) / GIB == pytest.approx(61.03, abs=0.01)  # 32.76e9 parameters x 2 bytes


def test_a_token_of_qwen_32b_takes_256_kib():
    assert kv_bytes_per_token(QWEN) == 262144  # 64 layers x 2 x 8 KV heads x 128 x 2 bytes


@pytest.mark.parametrize(
    ("gpu", "tp", "reference"),
    [
        ("h100-nvl", 4, 1092816),
        ("h100-nvl", 2, 418384),
        ("h100-nvl", 1, 82816),
        ("h100-sxm", 4, 886368),
        ("h100-sxm", 2, 315168),
        ("h100-sxm", 1, 31200),
    ],
)
def test_kv_tokens_agree_with_the_reference_model_within_6_per_mille(gpu, tp, reference):
    # The reference rounds the GPUs' memory to 93.6 and 79.6 GiB: 0.04 GiB is 0.5 % of what TP1 has left.
    assert kv_tokens(QWEN, find_gpu(gpu), tp) == pytest.approx(reference, rel=0.006)


def test_kv_tokens_come_in_whole_blocks():
    assert kv_tokens(QWEN, find_gpu("h100-nvl"), 2, block_tokens=32) % 32 == 0


def test_a_model_that_does_not_fit_leaves_no_tokens():
    assert kv_tokens(LLAMA_70B, find_gpu("h100-sxm"), 1) == 0  # 131 GiB of weights on 80


def test_more_gpus_than_kv_heads_hold_copies():
    eight, sixteen = (kv_tokens(LLAMA_70B, find_gpu("h100-sxm"), tp) for tp in (8, 16))
    # Half the weights per GPU make room, but a token costs each GPU the same.
    assert sixteen < 1.2 * eight


def test_a_sliding_window_caps_what_local_layers_keep():
    per_layer = 2 * 8 * 256 * 2  # keys and values, 8 heads, 256 wide, BF16
    assert kv_bytes_per_sequence(GEMMA, 4096) == 8 * 4096 * per_layer + 40 * 1024 * per_layer  # 576 MiB
    assert kv_bytes_per_sequence(GEMMA, 512) == 512 * kv_bytes_per_token(GEMMA)
