"""Step times against kernel tables measured on H100 SXM (aiconfigurator, vLLM 0.24), Qwen2.5-32B in BF16, and what
follows in other formats."""

import math
from dataclasses import replace
from statistics import mean

import pytest

from loadstair.serving.catalogue import Gpu
from loadstair.serving.formats import Formats
from loadstair.serving.steptime import FITTED, StepModel, StepShape, step_time_s
from tests.serving.known import gpu, model
from tests.serving.reference import reference_steps

QWEN = model("Qwen/Qwen2.5-32B-Instruct")
GEMMA = model("google/gemma-3-12b-it")
SXM, NVL, A100 = gpu("h100-sxm"), gpu("h100-nvl"), gpu("a100-80-sxm")
LINEAR_BYTES = 2 * QWEN.linear_parameters


def decode(rows: int, context: int) -> StepShape:
    return StepShape(decode_rows=rows, decode_context_tokens=rows * context, sampled_rows=rows)


def prefill(tokens: int) -> StepShape:
    return StepShape(prefill=((tokens, 0),))


def measured() -> list[tuple[StepShape, list[float]]]:
    steps = reference_steps()
    return [(decode(row["rows"], row["context"]), row["ms"]) for row in steps["decode"]] + [
        (prefill(row["tokens"]), row["ms"]) for row in steps["prefill"]
    ]


def log_errors() -> list[float]:
    return [
        math.log(StepModel(QWEN, SXM, tp, link).gpu_s(shape) * 1e3 / measured_ms)
        for shape, row in measured()
        for (tp, link), measured_ms in zip(reference_steps()["engines"], row, strict=True)
    ]


def test_step_times_are_within_4_percent_of_measured_kernels_on_average():
    assert mean(abs(error) for error in log_errors()) < 0.04


def test_no_step_time_is_more_than_21_percent_off():
    assert max(abs(error) for error in log_errors()) < 0.21


def test_a_step_adds_the_visible_cpu_time_to_the_gpus():
    step_model = StepModel(QWEN, SXM, 4, "nvswitch")
    shape = StepShape(prefill=((128, 0),), decode_rows=9, decode_context_tokens=900, sampled_rows=10)
    assert step_model.step_s(shape) - step_model.gpu_s(shape) == pytest.approx(0.54e-3)  # 0.5 ms + 10 sequences x 4 µs


def test_a_step_that_leaves_a_prompt_unfinished_costs_120_us_a_layer_more():
    step_model = StepModel(QWEN, SXM, 4, "nvswitch")
    cut = StepShape(prefill=((128, 0), (64, 0)), decode_rows=9, decode_context_tokens=900, sampled_rows=10)
    whole = replace(cut, sampled_rows=11)
    of_cpu = 0.5e-3 + 11 * 4e-6
    assert step_model.step_s(whole) - step_model.gpu_s(whole) == pytest.approx(of_cpu)
    assert step_model.step_s(cut) - step_model.gpu_s(cut) == pytest.approx(of_cpu + 64 * 120e-6)


def test_a_cost_of_every_step_with_a_prompt_can_be_given():
    dear, free = (StepModel(QWEN, SXM, 4, "nvswitch", prefill_step_s=given) for given in (0.05, 0.0))
    prompt = replace(prefill(512), sampled_rows=1)
    assert dear.step_s(prompt) - free.step_s(prompt) == pytest.approx(0.05)
    assert dear.step_s(decode(8, 640)) == free.step_s(decode(8, 640))


def test_tp4_over_pcie_prefills_slower_than_one_gpu():
    one = StepModel(QWEN, SXM, 1, "pcie5").gpu_s(prefill(2048))
    assert StepModel(QWEN, SXM, 4, "pcie5").gpu_s(prefill(2048)) > one


def test_remembered_parts_do_not_change_an_answer():
    step_model = StepModel(QWEN, NVL, 2, "nvlink_pairs")
    first = step_model.step_s(decode(64, 640))
    step_model.step_s(prefill(64))
    assert step_model.step_s(decode(64, 640)) == first == step_time_s(QWEN, NVL, 2, "nvlink_pairs", decode(64, 640))


def test_a_second_chunk_costs_more_than_the_first_because_it_looks_back():
    step_model = StepModel(QWEN, NVL, 2, "nvlink_pairs")
    later = StepShape(prefill=((512, 4096),))
    assert step_model.step_s(later) > step_model.step_s(StepShape(prefill=((512, 0),)))


def test_local_layers_stop_growing_at_their_window():
    step_model = StepModel(GEMMA, SXM, 1, "nvswitch")
    growth_inside = step_model.gpu_s(decode(8, 1000)) - step_model.gpu_s(decode(8, 500))
    growth_beyond = step_model.gpu_s(decode(8, 4500)) - step_model.gpu_s(decode(8, 4000))
    assert growth_beyond == pytest.approx(growth_inside * 8 / 48)  # 8 of 48 layers are global


def test_heads_that_cannot_be_split_are_refused():
    with pytest.raises(ValueError, match="tp=3"):
        StepModel(QWEN, SXM, 3, "nvswitch")


def test_more_gpus_than_kv_heads_read_copies():
    llama = model("Llama-3.1-70B-Instruct")  # 8 KV heads
    growth_s = {
        tp: StepModel(llama, SXM, tp, "nvswitch").gpu_s(decode(8, 2000))
        - StepModel(llama, SXM, tp, "nvswitch").gpu_s(decode(8, 1000))
        for tp in (4, 8, 16)
    }
    assert growth_s[8] == pytest.approx(growth_s[4] / 2)
    assert growth_s[16] == pytest.approx(growth_s[8])


def linear_s(of: Gpu, formats: Formats, shape: StepShape) -> float:
    """GPU time that shrinks with the weights: all but what BF16 and other formats share."""
    return StepModel(QWEN, of, 1, "nvswitch", formats=formats).gpu_s(shape)


@pytest.mark.parametrize(("weights", "bits"), [("fp8", 8), ("int4", 4.25)])
def test_one_row_takes_as_long_as_its_weights_take_to_be_read(weights, bits):
    bf16 = linear_s(SXM, Formats(), decode(1, 640))
    read_s = LINEAR_BYTES / (3350e9 * 0.86)
    starts_s = 64 * 4 * (6.0 - 3.5) * 1e-6
    expected = bf16 - read_s + LINEAR_BYTES * bits / 16 / (3350e9 * 0.78) + starts_s
    assert linear_s(SXM, Formats(weights=weights), decode(1, 640)) == pytest.approx(expected, rel=0.01)


def test_fp8_arithmetic_prefills_by_a_third_faster_and_int4_slower_than_bf16():
    bf16, fp8, int4 = (linear_s(SXM, Formats(weights=weights), prefill(8192)) for weights in ("bf16", "fp8", "int4"))
    gemm_s = 2 * 8192 * QWEN.linear_parameters / 989.4e12
    assert bf16 - fp8 == pytest.approx(gemm_s / 0.82 - gemm_s * 989.4 / 1978.9 / 0.55, rel=0.05)
    assert int4 - bf16 == pytest.approx(gemm_s / 0.66 - gemm_s / 0.82, rel=0.05)


def test_without_fp8_arithmetic_fp8_weights_are_read_faster_and_computed_as_bf16():
    assert A100.fp8_tflop_per_s is None
    fp8, int4 = Formats(weights="fp8"), Formats(weights="int4")
    assert linear_s(A100, fp8, decode(1, 640)) < 0.65 * linear_s(A100, Formats(), decode(1, 640))
    assert linear_s(A100, fp8, prefill(8192)) == pytest.approx(linear_s(A100, int4, prefill(8192)), rel=0.01)
    assert linear_s(A100, fp8, prefill(8192)) > linear_s(A100, Formats(), prefill(8192))


@pytest.mark.parametrize(("kv", "share"), [("fp8", 1 / 2), ("int4", 1 / 4)])
def test_keys_and_values_in_fewer_bits_are_read_faster(kv, share):
    def growth_s(formats: Formats) -> float:
        step_model = StepModel(QWEN, SXM, 2, "nvswitch", formats=formats)
        return step_model.gpu_s(decode(64, 2000)) - step_model.gpu_s(decode(64, 1000))

    assert growth_s(Formats(kv=kv)) == pytest.approx(share * growth_s(Formats()))


def test_a_fit_may_vary_every_constant():
    shape = StepShape(prefill=((300, 0),), decode_rows=9, decode_context_tokens=9000, sampled_rows=9)
    for formats, of in ((Formats(), SXM), (Formats(weights="fp8"), SXM), (Formats(weights="int4"), SXM)):
        before = StepModel(QWEN, of, 2, "nvswitch", formats=formats).step_s(shape)
        moved = {
            name: StepModel(QWEN, of, 2, "nvswitch", formats=formats, efficiencies=varied).step_s(shape) != before
            for name in FITTED.__dataclass_fields__
            if (varied := replace(FITTED, **{name: getattr(FITTED, name) * 1.1}))
        }
        foreign = {"fp8_", "weight_only_"} - {f"{prefix}_" for prefix in USED[formats.weights]}
        assert {name for name, has in moved.items() if not has} == {
            name for name in moved if name.startswith(tuple(foreign))
        }


USED = {"bf16": (), "fp8": ("fp8",), "int4": ("weight_only",)}
