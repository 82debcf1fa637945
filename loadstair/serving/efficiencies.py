"""What kernels reach of a GPU's data sheet, and what starting them costs: every fitted constant, by name."""

from dataclasses import dataclass
from typing import Final

US = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """Shares of data-sheet bandwidth and peak, and seconds. docs/model.md says what each was fitted to.

    "Unverified" are those that no measurement stands behind. A fit to an engine of one's own varies these.
    """

    gemm_start_s: float = 3.5 * US
    gemm_bandwidth: float = 0.86
    gemm_peak: float = 0.82
    """BF16. Fitted to aiconfigurator's vLLM GEMM tables, H100."""

    fp8_gemm_start_s: float = 6.0 * US
    fp8_gemm_bandwidth: float = 0.78
    fp8_gemm_peak: float = 0.55
    """FP8 arithmetic, of the FP8 peak; the start holds the quantising of the activations. Fitted to aiconfigurator's
    vLLM tables, H100; TensorRT-LLM reaches about 0.65 of the peak."""

    weight_only_gemm_start_s: float = 6.0 * US
    weight_only_gemm_bandwidth: float = 0.78
    weight_only_gemm_peak: float = 0.66
    """Weights stored smaller than they are computed with (INT4 anywhere, FP8 on a GPU without FP8 arithmetic), of the
    BF16 peak. Unverified: bandwidth and start are taken to be those of FP8, the peak four fifths of that of BF16, for
    the unpacking in the inner loop."""

    decode_attention_start_s: float = 12.0 * US
    decode_attention_row_s: float = 0.04 * US
    decode_attention_bandwidth: float = 0.88
    """Fitted to aiconfigurator's attention tables, H100, BF16; FP8 and INT4 keys and values are taken to be read as
    fast, in bytes (unverified)."""
    prefill_attention_peak: float = 0.60
    """Of the BF16 peak, whatever the format of weights, keys and values."""

    elementwise_start_s: float = 4.8 * US
    elementwise_bandwidth: float = 0.80
    """Norms, rotary embedding, activation, cache write: fitted as the rest of the layer."""

    cut_prompt_layer_s: float = 120.0 * US
    """For each layer, of a step that leaves a prompt unfinished: see docs/model.md."""

    all_reduce_time: float = 1.0
    """A factor on every all-reduce of `links.ALL_REDUCE`."""

    cpu_step_s: float = 0.5e-3
    cpu_sequence_s: float = 4.0 * US
    """What vLLM V1's asynchronous scheduling leaves visible. Unverified; the older synchronous loop costs 1.5 to 3 ms
    a step and 8 µs a sequence."""


FITTED: Final = Efficiencies()
