"""Step times against kernel tables measured on H100 SXM (aiconfigurator, vLLM 0.24), Qwen2.5-32B in BF16."""

import math
from statistics import mean

import pytest

from loadstair.serving.catalogue import find_gpu, find_model
from loadstair.serving.steptime import (
    AllReduce,
    StepModel,
    StepShape,
    all_reduce,
    expected_request_s,
    step_time_s,
)

QWEN = find_model("Qwen/Qwen2.5-32B-Instruct")
GEMMA = find_model("google/gemma-3-12b-it")
SXM = find_gpu("h100-sxm")
NVL = find_gpu("h100-nvl")


def decode(rows: int, context: int) -> StepShape:
    return StepShape(decode_rows=rows, decode_context_tokens=rows * context, sampled_rows=rows)


def prefill(tokens: int) -> StepShape:
    return StepShape(prefill=((tokens, 0),))


ENGINES = ((1, "nvswitch"), (2, "nvswitch"), (4, "nvswitch"), (4, "pcie5"))
MEASURED_MS = [
    (decode(1, 640), (23.4, 13.3, 7.95, 9.1)),
    (decode(64, 640), (30.8, 17.6, 10.4, 19.0)),
    (decode(128, 640), (35.5, 20.5, 12.5, 23.7)),
    (decode(256, 640), (45.9, 26.6, 16.9, 36.1)),
    (decode(128, 2304), (53.0, 29.1, 16.8, 28.1)),
    (prefill(512), (47, 28, 19, 53)),
    (prefill(2048), (182, 105, 63, 190)),
]


def log_errors() -> list[float]:
    return [
        math.log(StepModel(QWEN, SXM, tp, link).gpu_s(shape) * 1e3 / measured_ms)
        for shape, row in MEASURED_MS
        for (tp, link), measured_ms in zip(ENGINES, row, strict=True)
    ]


def test_step_times_are_within_4_percent_of_measured_kernels_on_average():
    assert mean(abs(error) for error in log_errors()) < 0.04


def test_no_step_time_is_more_than_21_percent_off():
    assert max(abs(error) for error in log_errors()) < 0.21


def test_a_step_adds_the_visible_cpu_time_to_the_gpus():
    model = StepModel(QWEN, SXM, 4, "nvswitch")
    shape = StepShape(prefill=((128, 0),), decode_rows=9, decode_context_tokens=900, sampled_rows=10)
    assert model.step_s(shape) - model.gpu_s(shape) == pytest.approx(0.54e-3)  # 0.5 ms + 10 sequences x 4 µs


def test_tp4_over_pcie_prefills_slower_than_one_gpu():
    one = StepModel(QWEN, SXM, 1, "pcie5").gpu_s(prefill(2048))
    assert StepModel(QWEN, SXM, 4, "pcie5").gpu_s(prefill(2048)) > one


def test_remembered_parts_do_not_change_an_answer():
    model = StepModel(QWEN, NVL, 2, "nvlink_pairs")
    first = model.step_s(decode(64, 640))
    model.step_s(prefill(64))
    assert model.step_s(decode(64, 640)) == first == step_time_s(QWEN, NVL, 2, "nvlink_pairs", decode(64, 640))


def test_a_second_chunk_costs_more_than_the_first_because_it_looks_back():
    model = StepModel(QWEN, NVL, 2, "nvlink_pairs")
    later = StepShape(prefill=((512, 4096),))
    assert model.step_s(later) > model.step_s(StepShape(prefill=((512, 0),)))


def test_local_layers_stop_growing_at_their_window():
    model = StepModel(GEMMA, SXM, 1, "nvswitch")
    growth_inside = model.gpu_s(decode(8, 1000)) - model.gpu_s(decode(8, 500))
    growth_beyond = model.gpu_s(decode(8, 4500)) - model.gpu_s(decode(8, 4000))
    assert growth_beyond == pytest.approx(growth_inside * 8 / 48)  # 8 of 48 layers are global


def test_heads_that_cannot_be_split_are_refused():
    with pytest.raises(ValueError, match="tp=3"):
        StepModel(QWEN, SXM, 3, "nvswitch")


def test_one_gpu_reduces_nothing():
    assert all_reduce(SXM, 1, "nvswitch") is None


def test_a_faster_nvlink_scales_the_bus():
    # B200: 1800 GB/s against the 900 of the H100 that was measured
    assert all_reduce(find_gpu("b200-sxm"), 2, "nvswitch") == AllReduce(4, 440)


def test_nvlink_pairs_cross_pcie_at_tp4():
    assert all_reduce(NVL, 4, "nvlink_pairs") == AllReduce(25, 45)


def test_one_user_is_expected_to_wait_for_one_prefill_and_every_token():
    expected = expected_request_s(
        QWEN, SXM, 4, "nvswitch", engines=1, concurrent=1, input_tokens=512, output_tokens=256
    )
    assert expected == pytest.approx(2.25, rel=0.02)  # 256 tokens at the reference model's 114 tokens/s


def test_users_beyond_the_sequence_limit_wait_in_proportion():
    def expected_s(users: int) -> float:
        return expected_request_s(
            QWEN, SXM, 4, "nvswitch", engines=1, concurrent=users, input_tokens=128, output_tokens=64, max_num_seqs=32
        )

    assert expected_s(96) == pytest.approx(3 * expected_s(32))  # 96 / 32
