"""Which deployments are named, and in which order."""

import json

import pytest

from loadstair.serving.catalogue import gpu_names
from loadstair.serving.formats import Formats
from loadstair.sizing.case import Case, Limits
from loadstair.sizing.cost import ApiPrice, given_price
from loadstair.sizing.otherwise import nothing_carries
from loadstair.sizing.sizing import Met, Money, size
from loadstair.sizing.values import sizing_values
from tests.sizing.staircase import QWEN, known_gpu, known_model

GEMMA = known_model("google/gemma-3-12b-it")
YI = known_model("01-ai/Yi-6B-Chat")
LLAMA_70B = known_model("meta-llama/Llama-3.1-70B-Instruct")
EVERY_GPU = [known_gpu(name) for name in gpu_names()]
NO_MONEY = Money(usd_per_hour={}, api=None, busy_share=0.5)


def case(model=GEMMA, **changes):
    values = {"concurrent": 50, "context_tokens": 4096, "input_tokens": 512, "output_tokens": 256}
    return Case(model=model, **{**values, **changes})


def names(sizing):
    return [f"{one.fit.gpu.name} {one.fit.name}" for one in sizing.candidates]


def test_one_80_gb_gpu_carries_50_gemma_sequences():
    assert {"h100-sxm 1 × TP1", "a100-80-sxm 1 × TP1"} <= set(names(size(case(), EVERY_GPU, NO_MONEY)))


def test_the_cheapest_comes_first_by_the_middle_of_its_price():
    found = size(case(), EVERY_GPU, NO_MONEY).candidates
    prices = [one.cost.usd_per_hour.middle for one in found]
    assert prices == sorted(prices)


def test_a_price_of_the_users_own_changes_the_order():
    money = Money(usd_per_hour={"b200-sxm": given_price(0.01)}, api=None, busy_share=0.5)
    assert names(size(case(), EVERY_GPU, money))[0] == "b200-sxm 1 × TP1"


def test_engines_are_added_until_no_limit_is_missed():
    l40s = [known_gpu("l40s")]
    free = size(case(), l40s, NO_MONEY)
    tight = size(case(limits=Limits(itl_s_p99=0.04)), l40s, NO_MONEY)
    assert "l40s 2 × TP1" in names(free)  # 28 sequences each
    assert "l40s 2 × TP1" not in names(tight)
    assert tight.candidates[0].met is not Met.NO


def test_what_misses_a_limit_comes_last():
    met = [one.met is Met.NO for one in size(case(limits=Limits(itl_s_p99=0.06)), EVERY_GPU, NO_MONEY).candidates]
    assert met == sorted(met)
    assert len(set(met)) == 2


def test_a_limit_inside_the_closed_forms_doubt_is_near():
    (one,) = (c for c in size(case(), [known_gpu("h100-sxm")], NO_MONEY).candidates if c.fit.tp == 1)
    middle = one.speed.itl_s_p99.value
    for limit, expected in ((middle * 1.4, Met.YES), (middle, Met.NEAR), (middle * 0.6, Met.NO)):
        limits = Limits(itl_s_p99=limit, ttft_s_p99=100)
        sized = size(case(limits=limits), [known_gpu("h100-sxm")], NO_MONEY, gpus_max=1)
        assert sized.candidates[0].itl is expected
        assert sized.candidates[0].ttft is Met.YES
        assert sized.candidates[0].met is expected
        assert sized.misses_limits is (expected is Met.NO)


def test_what_would_carry_is_told_where_nothing_does():
    asked = case(LLAMA_70B, concurrent=150)
    gpus = [known_gpu("h100-sxm")]
    sizing = size(asked, gpus, NO_MONEY, gpus_max=4)
    assert sizing.candidates == ()
    line = nothing_carries(asked, gpus, sizing.too_small, 4)
    assert "1 × TP4 h100-sxm holds 116;" in line  # 36.4 GiB of KV on each of four, 1.25 GiB a sequence
    assert line.endswith("--kv-dtype fp8 on 1 × TP4 h100-sxm would")


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        (GEMMA, {}, ["kv.sliding_window", "weights.bytes", "dtype.float16", "kv.heads", "gpu.utilization"]),
        (GEMMA, {"context_tokens": 800}, ["weights.bytes", "dtype.float16", "kv.heads", "gpu.utilization"]),
        (QWEN, {}, ["weights.bytes", "kv.heads", "gpu.utilization"]),
        (YI, {}, ["weights.bytes", "kv.heads", "kv.copies", "gpu.utilization"]),
        (LLAMA_70B, {"formats": Formats(weights="int4")}, ["weights.quantised", "kv.heads", "gpu.utilization"]),
    ],
    ids=["gemma", "inside-the-window", "qwen", "yi", "llama-int4"],
)
def test_a_rule_of_thumb_is_told_only_where_it_is_wrong(model, changes, expected):
    assert [one.id for one in size(case(model, **changes), EVERY_GPU, NO_MONEY).claims] == expected


def claim(id_, model, **changes):
    (found,) = (one for one in size(case(model, **changes), [known_gpu("h200-sxm")], NO_MONEY).claims if one.id == id_)
    return f"{found.said}; {found.true}"


@pytest.mark.parametrize(
    ("id_", "model", "changes", "words"),
    [
        ("kv.sliding_window", GEMMA, {"concurrent": 90}, "135.0 GiB for 90, so 2 h200-sxm"),  # 1.5 GiB each
        ("kv.sliding_window", GEMMA, {}, "576 MiB a sequence, not 1,536; 28.1 GiB for all; one h200-sxm holds 179"),
        ("weights.bytes", QWEN, {}, "65.5 GB = 61.0 GiB"),
        ("weights.quantised", LLAMA_70B, {"formats": Formats(weights="int4")}, "35.3 GB; 40.6 GB"),
        ("kv.heads", YI, {}, "512 KiB; 4 KV heads of 128, not 32: 64 KiB, 8 times less"),
        ("kv.copies", YI, {}, "4 KV heads can be split over 4: each is held 2 times"),
    ],
)
def test_a_claim_has_the_numbers_of_the_case(id_, model, changes, words):
    assert words in claim(id_, model, **changes)


def test_values_are_plain_and_say_what_is_unknown():
    values = json.loads(json.dumps(sizing_values(size(case(), EVERY_GPU, NO_MONEY)), allow_nan=False))
    first = values["candidates"][0]
    assert first["break_even"] is None
    assert first["ttft_limit"] is None
    parts = ("weights", "kv_asked", "activations", "overhead")
    assert sum(first[f"{part}_bytes"] for part in parts) == first["needed_bytes"]


def test_values_hold_the_break_even():
    api = ApiPrice(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)
    sized = size(case(), EVERY_GPU, Money(usd_per_hour={}, api=api, busy_share=0.5))
    even = sizing_values(sized)["candidates"][0]["break_even"]
    assert even["api_usd_per_million_requests"] == pytest.approx(256)
