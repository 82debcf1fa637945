"""What the weights leave for keys and values."""

from dataclasses import fields

import pytest

from loadstair.serving.formats import Formats
from loadstair.serving.memory import kv_bytes_per_sequence, kv_bytes_per_token, memory_budget, sequences, weights_bytes
from loadstair.units import GIB
from tests.serving.known import gpu, model

QWEN = model("Qwen/Qwen2.5-32B-Instruct")
GEMMA = model("google/gemma-3-12b-it")
LLAMA_70B = model("meta-llama/Llama-3.1-70B-Instruct")


@pytest.mark.parametrize(
    ("name", "tp", "expected", "digits"),
    [
        ("h100-sxm", 1, 31e3, 1e3),
        ("h100-sxm", 2, 316e3, 1e3),
        ("h100-sxm", 4, 887e3, 1e3),
        ("h100-nvl", 1, 83e3, 1e3),
        ("h100-nvl", 2, 419e3, 1e3),
        ("h100-nvl", 4, 1.09e6, 1e4),
        ("h200-sxm", 1, 255e3, 1e3),
        ("h200-sxm", 2, 764e3, 1e3),
        ("h200-sxm", 4, 1.78e6, 1e4),
    ],
)
def test_qwen_32b_has_the_kv_tokens_of_the_reference_table(name, tp, expected, digits):
    assert memory_budget(QWEN, gpu(name), tp).kv_tokens == pytest.approx(expected, abs=digits / 2)


@pytest.mark.parametrize(("tp", "engines", "expected"), [(1, 4, 48), (2, 2, 246), (4, 1, 346)])
def test_four_h100_hold_the_sequences_of_the_reference_table(tp, engines, expected):
    budget = memory_budget(QWEN, gpu("h100-sxm"), tp)
    assert engines * sequences(QWEN, budget, 2560, tp) == expected


IN_STAIRCASE = [
    ("h100-nvl", 93.6, {1: 82816, 2: 418384, 4: 1092816}),
    ("h100-sxm", 79.6, {1: 31200, 2: 315168, 4: 886368}),
]


@pytest.mark.parametrize(
    ("name", "memory_gib", "tp", "reference"),
    [(name, memory, tp, tokens) for name, memory, all_tokens in IN_STAIRCASE for tp, tokens in all_tokens.items()],
)
def test_the_reference_staircase_has_these_kv_tokens_with_three_roundings_of_its_own(name, memory_gib, tp, reference):
    """It rounds the memory, takes 0.4 GiB for the collectives of any TP, and leaves norms and biases out."""
    budget = memory_budget(QWEN, gpu(name), tp)
    rounded_memory = 0.9 * memory_gib * GIB - budget.budget_bytes
    collectives = 0 if tp == 1 else budget.collectives_bytes - 0.4 * GIB
    norms_and_biases = 2 * QWEN.small_parameters / tp
    kv_bytes = budget.kv_bytes + rounded_memory + collectives + norms_and_biases
    per_token = kv_bytes_per_token(QWEN) / tp
    assert int(kv_bytes / per_token) // 16 * 16 == reference
    assert budget.kv_tokens == pytest.approx(reference, rel=0.006)  # what the roundings come to


def test_the_parts_of_a_budget_add_up():
    budget = memory_budget(QWEN, gpu("h100-nvl"), 2, gpu_memory_utilization=0.8)
    assert budget.budget_bytes == round(0.8 * 95830 * 1024**2)  # of all the memory, not of what the weights leave
    parts = [getattr(budget, field.name) for field in fields(budget) if field.name not in NO_PART]
    assert sum(parts) == budget.budget_bytes


NO_PART = {"total_bytes", "budget_bytes", "kv_tokens"}


@pytest.mark.parametrize(
    ("name", "share", "tp", "fits"),
    [("l40s", 0.9, 1, True), ("rtx-3090", 0.9, 1, False), ("rtx-3090", 0.9, 2, True)],
)
def test_gemma_12b_fits_where_its_22_7_gib_leave_room(name, share, tp, fits):
    budget = memory_budget(GEMMA, gpu(name), tp, gpu_memory_utilization=share, max_num_batched_tokens=2048)
    assert budget.fits == fits
    assert (budget.kv_tokens > 0) == fits


def test_gemma_needs_54_gib_for_50_sequences_of_4096():
    needed = weights_bytes(GEMMA) + 50 * kv_bytes_per_sequence(GEMMA, 4096)
    assert needed / GIB == pytest.approx(22.7 + 28.1, abs=0.05)


@pytest.mark.parametrize(
    ("name", "tp", "context", "expected"),
    [
        ("h100-sxm", 1, 4096, 83),
        ("rtx-a6000", 1, 4096, 33),
        ("l40s", 1, 4096, 28),
        ("rtx-3090", 2, 4096, 29),
        ("l40s", 1, 700, 62),
    ],
)
def test_so_many_sequences_of_gemma_fit(name, tp, context, expected):
    budget = memory_budget(GEMMA, gpu(name), tp, max_num_batched_tokens=2048)
    assert sequences(GEMMA, budget, context, tp) == expected


def test_kv_tokens_come_in_whole_blocks():
    assert memory_budget(QWEN, gpu("h100-nvl"), 2, block_tokens=32).kv_tokens % 32 == 0


def test_a_model_that_does_not_fit_leaves_no_tokens():
    budget = memory_budget(LLAMA_70B, gpu("h100-sxm"), 1)  # 131 GiB of weights on 80
    assert (budget.kv_tokens, budget.kv_bytes, budget.fits) == (0, 0, False)
    assert sequences(LLAMA_70B, budget, 1000, 1) == 0


def test_fp8_weights_leave_room_and_fp8_keys_and_values_double_it():
    bf16, weights, both = (
        memory_budget(LLAMA_70B, gpu("h100-sxm"), 2, formats=formats).kv_tokens
        for formats in (Formats(), Formats(weights="fp8"), Formats(weights="fp8", kv="fp8"))
    )
    saved_bytes = weights_bytes(LLAMA_70B) - weights_bytes(LLAMA_70B, Formats(weights="fp8"))
    assert weights - bf16 == pytest.approx(saved_bytes / kv_bytes_per_token(LLAMA_70B), abs=16)
    assert both == pytest.approx(2 * weights, abs=32)


def test_more_gpus_than_kv_heads_hold_copies():
    eight, sixteen = (memory_budget(LLAMA_70B, gpu("h100-sxm"), tp) for tp in (8, 16))
    per_gpu = kv_bytes_per_token(LLAMA_70B) / 8  # eight heads: one a GPU, and so with sixteen GPUs
    assert sixteen.kv_tokens == pytest.approx(sixteen.kv_bytes / per_gpu, abs=16)
    assert sixteen.kv_tokens < 1.2 * eight.kv_tokens  # half the weights per GPU make room
    assert sequences(LLAMA_70B, sixteen, 1000, 16) == int(sixteen.kv_bytes / (1000 * per_gpu))


def test_a_sliding_window_caps_what_local_layers_keep():
    per_layer = 2 * 8 * 256 * 2  # keys and values, 8 heads, 256 wide, BF16
    assert kv_bytes_per_sequence(GEMMA, 4096) == 8 * 4096 * per_layer + 40 * 1024 * per_layer  # 576 MiB
    assert kv_bytes_per_sequence(GEMMA, 4096) == 576 * 1024**2
    growth = kv_bytes_per_sequence(GEMMA, 4097) - kv_bytes_per_sequence(GEMMA, 4096)
    assert growth == 64 * 1024  # beyond the window global layers alone grow
    assert kv_bytes_per_sequence(GEMMA, 512) == 512 * kv_bytes_per_token(GEMMA)


def test_a_sequence_has_a_token():
    with pytest.raises(ValueError, match="at least one token, not 0"):
        sequences(QWEN, memory_budget(QWEN, gpu("h100-nvl"), 2), 0, 2)
