"""The ceilings against the published claims that are known to lie above and below them."""

import pytest

from loadstair.serving.catalogue import Gpu, Model, find_gpu, find_model
from loadstair.serving.formats import Formats
from loadstair.serving.roofline import (
    Engines,
    Stored,
    least_stored,
    output_tokens_per_s_ceiling,
    prefill_tokens_per_s_ceiling,
    stream_tokens_per_s_ceiling,
)
from loadstair.serving.steptime import StepModel, StepShape


def engines(
    name: str, gpu_type: str = "rtx-5090", tp: int = 1, count: int = 1, stored: Stored | None = None
) -> Engines:
    model, gpu = find_model(name), find_gpu(gpu_type)
    assert isinstance(model, Model)
    assert isinstance(gpu, Gpu)
    return Engines(model=model, gpu=gpu, tp=tp, count=count, stored=stored or Stored())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Yi-6B-Chat", 154.5),  # 1792e9 / (2 × (6,061,035,520 - 64,000 × 4,096))
        ("Qwen2.5-3B-Instruct", 290.4),  # 1792e9 / (2 × 3,085,938,688): tied embeddings are read as output matrix
        ("TinyLlama-1.1B-Chat-v1.0", 866.1),  # 1792e9 / (2 × (1,100,048,384 - 32,000 × 2,048))
    ],
)
def test_a_single_stream_reads_the_weights_once_a_token(name: str, expected: float) -> None:
    assert stream_tokens_per_s_ceiling(engines(name), context_tokens=0) == pytest.approx(expected, abs=0.1)


def test_the_context_is_read_with_every_token() -> None:
    yi = engines("Yi-6B-Chat")
    # 4096 tokens of 65,536 bytes are 0.268 GB more than the 11.598 GB of weights.
    assert stream_tokens_per_s_ceiling(yi, context_tokens=4096) == pytest.approx(1792 / (11.598 + 0.268), abs=0.1)


def test_two_gpus_read_twice_as_fast_and_fp8_halves_what_is_read() -> None:
    one = stream_tokens_per_s_ceiling(engines("Yi-6B-Chat"), context_tokens=1000)
    assert stream_tokens_per_s_ceiling(engines("Yi-6B-Chat", tp=2), context_tokens=1000) == pytest.approx(2 * one)
    eight_bits = engines("Yi-6B-Chat", stored=Stored(weight=1, kv=1))
    assert stream_tokens_per_s_ceiling(eight_bits, context_tokens=1000) == pytest.approx(2 * one)


def ceiling(of: Engines, concurrent: float, inputs: float = 512, outputs: float = 256) -> float:
    return output_tokens_per_s_ceiling(
        of,
        concurrent=concurrent,
        context_tokens=inputs + outputs / 2,
        output_tokens=outputs,
        computed_input_tokens=inputs,
    )


def test_more_requests_share_the_weights_until_the_arithmetic_is_the_limit() -> None:
    h100 = engines("Llama-3.1-8B-Instruct", "h100-sxm")
    assert ceiling(h100, 1) < ceiling(h100, 8) < ceiling(h100, 64)
    # 8,030,261,248 parameters less twice 128,256 × 4,096 of embeddings; two prompt tokens for each of the answer.
    arithmetic = 989.4e12 / (2 * (8_030_261_248 - 2 * 128_256 * 4_096) * 3)
    assert ceiling(h100, 1e6) == pytest.approx(arithmetic)
    assert prefill_tokens_per_s_ceiling(h100) == pytest.approx(3 * arithmetic)


def test_fewer_requests_than_engines_leave_engines_idle() -> None:
    four = engines("Yi-6B-Chat", count=4)
    assert ceiling(four, 1) == pytest.approx(ceiling(engines("Yi-6B-Chat"), 1))
    assert ceiling(four, 4) == pytest.approx(4 * ceiling(four, 1))


def test_one_engine_over_all_gpus_bounds_every_other_arrangement() -> None:
    together = engines("Qwen2.5-32B-Instruct", "h100-sxm", tp=4)
    apart = engines("Qwen2.5-32B-Instruct", "h100-sxm", tp=1, count=4)
    for concurrent in (1, 4, 64, 512):
        assert ceiling(together, concurrent) >= ceiling(apart, concurrent)


@pytest.mark.parametrize("name", ["Qwen2.5-32B-Instruct", "Llama-3.1-8B-Instruct", "gemma-3-12b-it"])
@pytest.mark.parametrize("rows", [1, 16, 128, 512])
def test_the_step_model_stays_below_the_ceiling(name: str, rows: int) -> None:
    of = engines(name, "h100-sxm")
    step = StepShape(decode_rows=rows, decode_context_tokens=rows * 640, sampled_rows=rows)
    modelled = rows / StepModel(of.model, of.gpu, 1, "nvswitch").step_s(step)
    highest = output_tokens_per_s_ceiling(
        of, concurrent=rows, context_tokens=640, output_tokens=1e9, computed_input_tokens=0
    )
    assert modelled < highest


@pytest.mark.parametrize("formats", [Formats("fp8", "fp8"), Formats("int4", "bf16"), Formats("int4", "int4")])
@pytest.mark.parametrize("rows", [1, 64, 512])
@pytest.mark.parametrize("gpu_type", ["h100-sxm", "a100-80-sxm"])
def test_in_any_format_the_step_model_stays_below_the_ceiling(formats: Formats, rows: int, gpu_type: str) -> None:
    of = engines("Llama-3.1-8B-Instruct", gpu_type, stored=least_stored(formats))
    step = StepShape(decode_rows=rows, decode_context_tokens=rows * 640, sampled_rows=rows)
    modelled = rows / StepModel(of.model, of.gpu, 1, "nvswitch", formats=formats).step_s(step)
    highest = output_tokens_per_s_ceiling(
        of, concurrent=rows, context_tokens=640, output_tokens=1e9, computed_input_tokens=0
    )
    assert modelled < highest


def test_an_answer_of_one_token_needs_no_decode_step() -> None:
    yi = engines("Yi-6B-Chat")
    assert ceiling(yi, 4, inputs=99, outputs=1) == pytest.approx(prefill_tokens_per_s_ceiling(yi) / 100)
