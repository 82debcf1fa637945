"""GPU memory of one engine: what the weights leave for the key-value cache. Pure.

    gpu_memory_utilization * memory = weights / tp + activations + collectives + other + KV cache        (per GPU)

Source of the terms: vLLM's start-up profile, and the reserves of ai-dynamo/aiconfigurator.
"""

from loadstair.serving.catalogue import Gpu, Model
from loadstair.units import GIB

BYTES_PER_VALUE = 2
"""BF16."""
BLOCK_TOKENS = 16
"""vLLM's default block size."""
OTHER_BYTES = 1.2 * GIB
"""CUDA context and captured graphs. aiconfigurator reserves 3.5 GiB, for safety."""
MIB = 1024**2


def weights_bytes(model: Model) -> int:
    """Of the whole model, in BF16."""
    return model.parameters * BYTES_PER_VALUE


def kv_bytes_per_token(model: Model) -> int:
    """Keys and values of one token in all layers, over all GPUs.

    A model with sliding windows needs less for long sequences, see `kv_bytes_per_sequence`.
    """
    return model.layers * _kv_bytes_per_token_and_layer(model)


def kv_bytes_per_sequence(model: Model, context_tokens: int) -> int:
    """Of one sequence when local layers keep only their window (vLLM's hybrid KV cache), without page overhead."""
    local_tokens = context_tokens if model.sliding_window is None else min(context_tokens, model.sliding_window)
    tokens_in_layers = model.global_layers * context_tokens + model.local_layers * local_tokens
    return tokens_in_layers * _kv_bytes_per_token_and_layer(model)


def kv_tokens(
    model: Model,
    gpu: Gpu,
    tp: int,
    *,
    gpu_memory_utilization: float = 0.9,
    max_num_batched_tokens: int = 8192,
    max_num_seqs: int = 256,
    block_tokens: int = BLOCK_TOKENS,
) -> int:
    """Tokens that the KV cache of one engine on `tp` GPUs holds, in whole blocks; 0 if the model does not fit.

    All layers keep all tokens: what vLLM does without its hybrid cache, and a lower bound with it.
    """
    activations = _activation_bytes(model, tp, max_num_batched_tokens, max_num_seqs)
    budget = gpu_memory_utilization * gpu.memory_mib * MIB
    kv_bytes = budget - weights_bytes(model) / tp - activations - _collective_bytes(tp) - OTHER_BYTES
    kv_bytes_per_token_and_gpu = kv_bytes_per_token(model) / min(tp, model.kv_heads)
    return max(0, int(kv_bytes / kv_bytes_per_token_and_gpu) // block_tokens * block_tokens)


def _kv_bytes_per_token_and_layer(model: Model) -> int:
    return 2 * model.kv_heads * model.head_dim * BYTES_PER_VALUE


def _activation_bytes(model: Model, tp: int, max_num_batched_tokens: int, max_num_seqs: int) -> float:
    per_token = (3 * model.intermediate / tp + 4 * model.hidden) * BYTES_PER_VALUE
    # Logits as BF16 and once more as FP32, for sampling.
    per_sequence = model.vocab / tp * 6
    return max_num_batched_tokens * per_token + max_num_seqs * per_sequence


def _collective_bytes(tp: int) -> float:
    """NCCL's buffers. Source: aiconfigurator."""
    if tp == 1:
        return 0.0
    return 0.34 * GIB if tp == 2 else 0.39 * GIB
