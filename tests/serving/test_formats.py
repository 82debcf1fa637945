"""Bytes of weights, keys and values in each format: every figure of the reference table."""

import pytest

from loadstair.serving.catalogue import Model, find_model
from loadstair.serving.formats import Formats, kv_format, weight_format
from loadstair.serving.memory import kv_bytes_per_sequence, kv_bytes_per_token, weights_bytes
from loadstair.units import GIB
from tests.serving.reference import reference_models

IN_REFERENCE = {"bf16": "bf16", "fp8": "fp8_linear", "int4": "int4_g128_linear"}
MODELS = reference_models()


def model_of(row: dict[str, object]) -> Model:
    model = find_model(str(row["hf"]))
    assert model is not None
    return model


@pytest.mark.parametrize("weights", IN_REFERENCE)
@pytest.mark.parametrize("row", MODELS, ids=lambda row: str(row["id"]))
def test_weights_take_the_bytes_of_the_reference(row, weights):
    counted = weights_bytes(model_of(row), Formats(weights=weights))
    assert counted == row["weights_bytes"][IN_REFERENCE[weights]]
    assert counted / GIB == pytest.approx(row["weights_gib"][IN_REFERENCE[weights]], abs=0.0051)


@pytest.mark.parametrize("kv", ["bf16", "fp8", "int4"])
@pytest.mark.parametrize("row", MODELS, ids=lambda row: str(row["id"]))
def test_a_token_takes_the_bytes_of_the_reference(row, kv):
    assert kv_bytes_per_token(model_of(row), Formats(kv=kv)) == row["kv_bytes_per_token"][kv]


GEMMA = next(row for row in MODELS if row["id"] == "gemma-3-12b-it")


@pytest.mark.parametrize(("context", "expected"), GEMMA["kv_hybrid"]["per_seq_bytes_bf16"].items())
def test_a_sequence_of_gemma_takes_the_bytes_of_the_reference(context, expected):
    assert kv_bytes_per_sequence(model_of(GEMMA), int(context)) == expected


@pytest.mark.parametrize(("context", "expected"), GEMMA["kv_hybrid"]["per_seq_bytes_bf16_no_hybrid"].items())
def test_without_the_hybrid_cache_every_layer_keeps_every_token(context, expected):
    assert int(context) * kv_bytes_per_token(model_of(GEMMA)) == expected


def test_four_bits_are_not_a_quarter_because_embeddings_and_scales_stay():
    llama = find_model("Llama-3.1-70B-Instruct")
    assert llama is not None
    assert weights_bytes(llama, Formats(weights="int4")) / 1e9 == pytest.approx(40.6, abs=0.05)  # not 35


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [("fp8", "fp8"), ("ptpc_fp8", "fp8"), ("awq_marlin", "int4"), ("gptq", "int4"), ("int4", "int4"), ("none", "bf16")],
)
def test_vllms_quantization_names_a_weight_format(quantization, expected):
    assert weight_format(quantization) == expected


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", "bf16"), ("bfloat16", "bf16"), ("fp8_e4m3", "fp8"), ("int4", "int4")]
)
def test_vllms_kv_cache_dtype_names_a_format_of_keys_and_values(dtype, expected):
    assert kv_format(dtype) == expected


def test_unknown_formats_are_refused_in_one_line():
    with pytest.raises(ValueError, match="'experts_int8' is no weight format of the model: bf16, fp8 or int4"):
        weight_format("experts_int8")
    with pytest.raises(ValueError, match="'turbo' is no format of keys and values: auto, bfloat16, fp8 or int4"):
        kv_format("turbo")
