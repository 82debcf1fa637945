"""GPU memory of one engine: what the weights leave for the key-value cache. Pure.

    gpu_memory_utilization * memory = weights / tp + activations + collectives + other + KV cache        (per GPU)

gpu_memory_utilization is a share of the *whole* memory, not of what is free. Source of the terms: vLLM's start-up
profile, and the reserves of ai-dynamo/aiconfigurator.
"""

from dataclasses import dataclass

from loadstair.serving.formats import BF16, BF16_BYTES, Formats, bytes_per_kv_value, bytes_per_linear_weight
from loadstair.serving.gpu import Gpu
from loadstair.serving.model import Model
from loadstair.units import GIB

BLOCK_TOKENS = 16
"""vLLM's default block size."""
GPU_MEMORY_UTILIZATION = 0.9
"""vLLM's default; 0.92 since 0.22."""
MAX_NUM_BATCHED_TOKENS = 8192
MAX_NUM_SEQS = 256
OTHER_BYTES = round(1.2 * GIB)
"""CUDA context and captured graphs. Unverified; aiconfigurator reserves 3.5 GiB, for safety."""
COLLECTIVES_TWO_BYTES = round(0.34 * GIB)
COLLECTIVES_MORE_BYTES = round(0.39 * GIB)
"""NCCL's buffers of two, and of more GPUs. Source: aiconfigurator."""
LOGIT_BYTES = BF16_BYTES + 4
"""Once as BF16, and once more as FP32 for sampling."""
MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes on each GPU of an engine."""

    total_bytes: int
    budget_bytes: int
    """gpu_memory_utilization of the total."""
    weights_bytes: int
    activations_bytes: int
    """The largest step: max_num_batched_tokens through a layer, logits of max_num_seqs."""
    collectives_bytes: int
    other_bytes: int
    kv_bytes: int
    """What is left; 0 if nothing is."""
    kv_tokens: int
    """Of the engine, in whole blocks, when all layers keep all tokens: what vLLM does without its hybrid cache, and a
    lower bound with it."""

    @property
    def fits(self) -> bool:
        """Whether there is room for at least one block of the KV cache."""
        return self.kv_tokens > 0


def weights_bytes(model: Model, formats: Formats = BF16) -> int:
    """Of the whole model, on however many GPUs."""
    rest = (model.parameters - model.linear_parameters) * BF16_BYTES
    return rest + round(model.linear_parameters * bytes_per_linear_weight(formats.weights))


def kv_bytes_per_token(model: Model, formats: Formats = BF16) -> int:
    """Keys and values of one token in all layers, over all GPUs, each head counted once.

    A model with sliding windows needs less for long sequences, see `kv_bytes_per_sequence`. More GPUs than KV heads
    hold copies, see `kv_copies`.
    """
    return model.layers * _kv_bytes_per_token_and_layer(model, formats)


def kv_bytes_per_sequence(model: Model, context_tokens: int, formats: Formats = BF16) -> int:
    """Of one sequence when local layers keep only their window (vLLM's hybrid KV cache), without page overhead."""
    local_tokens = context_tokens if model.sliding_window is None else min(context_tokens, model.sliding_window)
    tokens_in_layers = model.global_layers * context_tokens + model.local_layers * local_tokens
    return tokens_in_layers * _kv_bytes_per_token_and_layer(model, formats)


def kv_copies(model: Model, tp: int) -> float:
    """How often each KV head is held on `tp` GPUs together: once, unless there are fewer heads than GPUs."""
    return max(1.0, tp / model.kv_heads)


def memory_budget(
    model: Model,
    gpu: Gpu,
    tp: int,
    *,
    formats: Formats = BF16,
    gpu_memory_utilization: float = GPU_MEMORY_UTILIZATION,
    max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS,
    max_num_seqs: int = MAX_NUM_SEQS,
    block_tokens: int = BLOCK_TOKENS,
) -> MemoryBudget:
    """Of an engine on `tp` GPUs. A model that does not fit has a budget too, without room for keys and values."""
    total = gpu.memory_mib * MIB
    budget = round(gpu_memory_utilization * total)
    weights = round(weights_bytes(model, formats) / tp)
    activations = round(_activation_bytes(model, tp, max_num_batched_tokens, max_num_seqs))
    collectives = _collective_bytes(tp)
    kv_bytes = max(0, budget - weights - activations - collectives - OTHER_BYTES)
    kv_bytes_per_token_and_gpu = kv_bytes_per_token(model, formats) * kv_copies(model, tp) / tp
    return MemoryBudget(
        total_bytes=total,
        budget_bytes=budget,
        weights_bytes=weights,
        activations_bytes=activations,
        collectives_bytes=collectives,
        other_bytes=OTHER_BYTES,
        kv_bytes=kv_bytes,
        kv_tokens=int(kv_bytes / kv_bytes_per_token_and_gpu) // block_tokens * block_tokens,
    )


def sequences(model: Model, budget: MemoryBudget, context_tokens: int, tp: int, formats: Formats = BF16) -> int:
    """Sequences of `context_tokens` each that the KV cache of one engine holds at once; local layers keep their window
    alone (vLLM's hybrid cache)."""
    if context_tokens < 1:
        raise ValueError(f"a sequence has at least one token, not {context_tokens}")
    of_one = kv_bytes_per_sequence(model, context_tokens, formats) * kv_copies(model, tp) / tp
    return int(budget.kv_bytes / of_one)


def _kv_bytes_per_token_and_layer(model: Model, formats: Formats) -> int:
    return round(2 * model.kv_width * bytes_per_kv_value(formats.kv))


def _activation_bytes(model: Model, tp: int, max_num_batched_tokens: int, max_num_seqs: int) -> float:
    per_token = (3 * model.intermediate / tp + 4 * model.hidden) * BF16_BYTES
    return max_num_batched_tokens * per_token + max_num_seqs * model.vocab / tp * LOGIT_BYTES


def _collective_bytes(tp: int) -> int:
    if tp == 1:
        return 0
    return COLLECTIVES_TWO_BYTES if tp == 2 else COLLECTIVES_MORE_BYTES
