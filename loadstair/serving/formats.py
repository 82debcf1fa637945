"""How numbers are stored on the GPU: weights, and keys and values. Pure.

FP8 and INT4 are of the linear layers alone, as the usual quantised checkpoints have them; embeddings, output matrix,
norms, biases and a vision tower stay BF16.
"""

from dataclasses import dataclass
from typing import Final, Literal, assert_never

WeightFormat = Literal["bf16", "fp8", "int4"]
KvFormat = Literal["bf16", "fp8", "int4"]

BF16_BYTES = 2
INT4_GROUP_VALUES = 128
INT4_GROUP_BYTES = 4
"""A scale and a zero point of 16 bits each. AWQ and GPTQ pack the zero point into 4 bits, symmetric formats have none:
1 to 3 % less."""
FOUR_BITS = ("awq", "gptq", "int4", "w4a16", "bitsandbytes", "nf4", "mxfp4", "nvfp4", "fp4", "gguf", "marlin")
"""What the names of formats with 4 bits a weight contain."""


@dataclass(frozen=True, slots=True)
class Formats:
    weights: WeightFormat = "bf16"
    kv: KvFormat = "bf16"


BF16: Final = Formats()


def bytes_per_linear_weight(weights: WeightFormat) -> float:
    """Scales included."""
    match weights:
        case "bf16":
            return BF16_BYTES
        case "fp8":
            return 1.0
        case "int4":
            return 0.5 + INT4_GROUP_BYTES / INT4_GROUP_VALUES
        case _:
            assert_never(weights)


def bytes_per_kv_value(kv: KvFormat) -> float:
    """Without scales: of FP8 there is one for a whole layer."""
    match kv:
        case "bf16":
            return BF16_BYTES
        case "fp8":
            return 1.0
        case "int4":
            return 0.5
        case _:
            assert_never(kv)


def weight_format(quantization: str) -> WeightFormat:
    """Of vLLM's `quantization`. Raises ValueError for one that the step model does not know."""
    name = quantization.casefold()
    if name in ("bf16", "bfloat16", "none", "auto"):
        return "bf16"
    if "fp8" in name:
        return "fp8"
    if any(four_bits in name for four_bits in FOUR_BITS):
        return "int4"
    raise ValueError(f"{quantization!r} is no weight format of the model: bf16, fp8 or int4 (awq and gptq are int4)")


def kv_format(kv_cache_dtype: str) -> KvFormat:
    """Of vLLM's `kv_cache_dtype`. Raises ValueError for one that the step model does not know."""
    name = kv_cache_dtype.casefold()
    if name in ("auto", "bf16", "bfloat16"):
        return "bf16"
    if name.startswith("fp8"):
        return "fp8"
    if name.startswith("int4"):
        return "int4"
    raise ValueError(f"{kv_cache_dtype!r} is no format of keys and values: auto, bfloat16, fp8 or int4")


def asked_formats(quantization: str | None, kv_cache_dtype: str | None, *, stored_as: WeightFormat) -> Formats:
    """Of an engine's flags by vLLM's names, None where one is not given; `stored_as`: of the checkpoint itself.

    Raises ValueError as `weight_format` and `kv_format` do.
    """
    return Formats(
        weights=stored_as if quantization is None else weight_format(quantization),
        kv="bf16" if kv_cache_dtype is None else kv_format(kv_cache_dtype),
    )
