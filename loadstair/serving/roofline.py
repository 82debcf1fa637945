"""What no engine can exceed: the weights and keys and values read at the data sheet's bandwidth, the arithmetic done at
its peak. Pure.

No efficiency, no start-up, no all-reduce, no attention arithmetic, and reading and computing at the same time: whatever
is left out only costs, so every figure here is an upper bound. `steptime` says what can be expected instead.
"""

from dataclasses import dataclass
from typing import Final

from loadstair.serving.formats import BF16_BYTES, Formats, WeightFormat, bytes_per_kv_value
from loadstair.serving.gpu import Gpu
from loadstair.serving.memory import kv_bytes_per_sequence
from loadstair.serving.model import Model

LEAST_WEIGHT_BYTES: Final[dict[WeightFormat, float]] = {"bf16": BF16_BYTES, "fp8": 1.0, "int4": 0.5}
"""Without scales: a bound must not count what some kernel may not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Bytes that one number takes in the GPU's memory."""

    weight: float = BF16_BYTES
    kv: float = BF16_BYTES


def least_stored(formats: Formats) -> Stored:
    """Of all numbers, embeddings too, what the smallest take: no engine with these formats reads less."""
    return Stored(weight=LEAST_WEIGHT_BYTES[formats.weights], kv=bytes_per_kv_value(formats.kv))


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Engines that are alike, each on `tp` GPUs of its own."""

    model: Model
    gpu: Gpu
    tp: int
    count: int
    stored: Stored


def read_parameters(model: Model) -> int:
    """Weights that every decode step reads: all but a vision tower, and the input embeddings, of which a step needs a
    row for each sequence. Embeddings that are also the output matrix are read as that."""
    unread = 0 if model.tied_embeddings else model.vocab * model.hidden
    return model.parameters - model.extra_parameters - unread


def stream_tokens_per_s_ceiling(engines: Engines, *, context_tokens: float) -> float:
    """Of one sequence, however many share the step: a token needs a step, a step reads the weights and, at the least,
    this sequence's keys and values."""
    return 1 / _step_s(engines, rows=1.0, context_tokens=context_tokens)


def output_tokens_per_s_ceiling(
    engines: Engines,
    *,
    concurrent: float,
    context_tokens: float,
    output_tokens: float,
    computed_input_tokens: float,
) -> float:
    """Of all engines, with `concurrent` requests under way on average, all of them taken to decode at once.

    Means over the requests: `context_tokens` that a decode step reads of each, `output_tokens`, and the
    `computed_input_tokens` that no cache had. The bound is concave in the requests under way, so a load that wavers or
    is spread unevenly stays below the bound of its mean.
    """
    rows = concurrent / engines.count
    # Below one request an engine stands still for the rest of the time.
    decoding = concurrent / _step_s(engines, rows=max(1.0, rows), context_tokens=context_tokens)
    # The first token of an answer comes from its prompt, without a decode step.
    decoded = output_tokens / (output_tokens - 1) * decoding if output_tokens > 1 else float("inf")
    flop_per_output_token = 2 * _computed_parameters(engines.model) * (1 + computed_input_tokens / output_tokens)
    return min(decoded, engines.count * _peak(engines) / flop_per_output_token)


def prefill_tokens_per_s_ceiling(engines: Engines) -> float:
    """Prompt tokens of all engines, when they do nothing else."""
    return engines.count * _peak(engines) / (2 * _computed_parameters(engines.model))


def _step_s(engines: Engines, *, rows: float, context_tokens: float) -> float:
    """The least that a decode step takes."""
    model, stored = engines.model, engines.stored
    weights_bytes = read_parameters(model) * stored.weight
    # The catalogue's figure is for BF16. A window makes it concave: by the mean context it is a little too much for
    # contexts that lie on both sides of the window.
    kv_bytes = kv_bytes_per_sequence(model, round(max(0.0, context_tokens))) * stored.kv / BF16_BYTES
    bandwidth = engines.tp * engines.gpu.bandwidth_gb_per_s * 1e9
    return (weights_bytes + rows * kv_bytes) / bandwidth


def _computed_parameters(model: Model) -> int:
    """Two FLOP each for every token, of a prompt too: the output matrix is needed for its last token alone."""
    return read_parameters(model) - model.vocab * model.hidden


def _peak(engines: Engines) -> float:
    """FLOP/s of one engine: the fastest arithmetic of its GPUs that weights of this size could use."""
    gpu = engines.gpu
    fp8 = gpu.fp8_tflop_per_s if engines.stored.weight < BF16_BYTES else None
    return engines.tp * (fp8 or gpu.bf16_tflop_per_s) * 1e12
