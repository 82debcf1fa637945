"""The tables that the project's reference gives for two models, and what follows from a case."""

import pytest

from loadstair.serving.formats import Formats
from loadstair.sizing.case import Case, batched_tokens
from loadstair.sizing.fit import carrying, fit, placements
from loadstair.units import GIB
from tests.sizing.staircase import QWEN, known_gpu, known_model

GEMMA = known_model("google/gemma-3-12b-it")
YI = known_model("01-ai/Yi-6B-Chat")


def case(model=GEMMA, concurrent=50, context=4096, **changes):
    lengths = {"input_tokens": context - 1, "output_tokens": 1}
    return Case(model=model, concurrent=concurrent, context_tokens=context, **lengths | changes)


@pytest.mark.parametrize(
    ("gpu", "tp", "context", "expected"),
    [
        ("rtx-a6000", 1, 4096, 33),
        ("l40s", 1, 4096, 28),
        ("rtx-3090", 2, 4096, 29),
        ("l40s", 1, 700, 62),
    ],
)
def test_gemma_has_the_sequences_of_the_reference_table(gpu, tp, context, expected):
    assert fit(case(context=context), known_gpu(gpu), tp, 1).sequences == expected


@pytest.mark.parametrize(("budget", "expected"), [(2048, 83), (None, 82)])
def test_an_h100_holds_83_gemma_sequences_less_one_for_the_larger_token_budget_that_vllm_gives_it(budget, expected):
    # The reference reckons with 2048 everywhere; 8192, vLLM's default here, takes 0.7 GiB more activations.
    assert fit(case(max_num_batched_tokens=budget), known_gpu("h100-sxm"), 1, 1).sequences == expected


@pytest.mark.parametrize(("gpu", "expected"), [("h100-sxm", 8192), ("a100-80-sxm", 2048), ("l40s", 2048)])
def test_the_token_budget_is_vllms_default_on_the_gpu(gpu, expected):
    assert batched_tokens(known_gpu(gpu)) == expected


@pytest.mark.parametrize(("tp", "engines", "expected"), [(1, 4, 48), (2, 2, 246), (4, 1, 346)])
def test_four_h100_hold_the_qwen_sequences_of_the_reference_table(tp, engines, expected):
    found = fit(case(QWEN, 4, 2560), known_gpu("h100-sxm"), tp, engines)
    assert found.sequences * engines == expected


def test_gemma_needs_53_gib_for_50_full_sequences_and_fits_one_80_gb_gpu():
    found = fit(case(), known_gpu("h100-sxm"), 1, 1)
    assert found.needed_bytes / GIB == pytest.approx(22.7 + 28.1 + 1.3 + 1.2, abs=0.1)  # the reference: about 54
    assert found.carries


def test_of_each_gpu_and_tp_every_number_of_engines_that_carries_is_found():
    found = carrying(case(), known_gpu("l40s"), 1)  # 28 sequences each: 2 x 28 >= 50
    assert [one.engines for one in found] == [2, 3, 4, 5, 6, 7, 8]
    assert carrying(case(), known_gpu("rtx-3090"), 1) == ()  # 22.7 GiB of weights in 21.6
    assert [one.gpus for one in carrying(case(), known_gpu("l40s"), 4)] == [4, 8]


def test_an_engine_is_let_carry_more_sequences_than_256():
    found = fit(case(QWEN, 600, 256), known_gpu("h200-sxm"), 4, 1)
    usual = fit(case(QWEN, 200, 256), known_gpu("h200-sxm"), 4, 1)
    assert found.carries
    assert found.budget.activations_bytes > usual.budget.activations_bytes  # logits of 600 rows


def test_only_tps_that_divide_the_heads_are_tried():
    tps = {tp for _, tp in placements(QWEN, [known_gpu("h100-sxm")])}
    assert tps == {1, 2, 4, 8}  # 40 heads


def test_tp_beyond_the_kv_heads_holds_copies():
    four, eight = (fit(case(YI, 10), known_gpu("l40s"), tp, 1) for tp in (4, 8))  # 4 KV heads
    assert eight.asked_kv_bytes == four.asked_kv_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 200_000}, "beyond the 131072 tokens of google/gemma-3-12b-it"),
        ({"input_tokens": 4096, "output_tokens": 1}, "do not fit into a context of 4096"),
        ({"concurrent": 0}, "at least 1"),
        ({"gpu_memory_utilization": 1.2}, "share above 0, up to 1, not 1.2"),
    ],
)
def test_what_no_deployment_could_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        case(**changes)


def test_smaller_formats_carry_more():
    formats = (Formats(), Formats(kv="fp8"), Formats(weights="int4", kv="fp8"))
    held = [fit(case(formats=one), known_gpu("l40s"), 1, 1).sequences for one in formats]
    assert held == sorted(set(held))
    assert held[1] in (2 * held[0], 2 * held[0] + 1)


def test_kv_use_is_of_the_usual_lengths_on_the_fullest_engine():
    lengths = {"input_tokens": 1024, "output_tokens": 256}
    found = fit(case(QWEN, 41, 2560, **lengths), known_gpu("h100-sxm"), 1, 4)  # eleven on the fullest
    assert found.kv_use == pytest.approx(11 * 1280 / 31_200, rel=0.01)  # of 31k tokens
    assert fit(case(), known_gpu("rtx-3090"), 1, 1).kv_use is None
