"""How long one step of an engine takes: a roofline with fitted efficiencies, per layer and GPU. Pure.

Fitted to kernel times measured with vLLM 0.24 on H100 (the tables of ai-dynamo/aiconfigurator) for Qwen2.5-32B in BF16,
TP 1 to 4: mean |log error| 4 %, at most 20 % (decode of about 64 rows with all-reduces over PCIe). BF16 only.
"""

from dataclasses import dataclass
from typing import Final

from loadstair.serving.catalogue import Gpu, Link, Model
from loadstair.serving.formats import BF16_BYTES
from loadstair.serving.memory import kv_tokens

US = 1e-6

GEMM_START_S = 3.5 * US
GEMM_BANDWIDTH_EFFICIENCY = 0.86
GEMM_PEAK_EFFICIENCY = 0.82
"""Fitted to aiconfigurator's vLLM GEMM tables, H100, BF16."""
DECODE_ATTENTION_START_S = 12 * US
DECODE_ATTENTION_ROW_S = 0.04 * US
DECODE_ATTENTION_BANDWIDTH_EFFICIENCY = 0.88
PREFILL_ATTENTION_PEAK_EFFICIENCY = 0.60
"""Fitted to aiconfigurator's attention tables, H100."""
ELEMENTWISE_START_S = 4.8 * US
ELEMENTWISE_BANDWIDTH_EFFICIENCY = 0.80
"""Norms, rotary embedding, activation, cache write: fitted as the rest of the layer."""
CPU_STEP_S = 0.5e-3
CPU_SEQUENCE_S = 4 * US
"""What vLLM V1's asynchronous scheduling leaves visible. Unverified; the older synchronous loop costs 1.5 to 3 ms."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Cost of one all-reduce: start, and 2 (t - 1) / t times the bytes at the bus bandwidth."""

    start_us: float
    bus_gb_per_s: float


ALL_REDUCE: Final[dict[Link, dict[int, AllReduce]]] = {
    # vLLM's custom all-reduce in a CUDA graph, H100 with 900 GB/s (aiconfigurator); 8: extrapolated from 2 and 4.
    "nvswitch": {2: AllReduce(4, 220), 4: AllReduce(5, 260), 8: AllReduce(6, 280)},
    # H100, 600 GB/s in the pair, PCIe beyond it (microsoft/vidur's profiles); 8: extrapolated as PCIe 4 goes.
    "nvlink_pairs": {2: AllReduce(5, 190), 4: AllReduce(25, 45), 8: AllReduce(48, 20)},
    # No NVLink, PCIe 5 (aiconfigurator); 8: extrapolated as PCIe 4 goes.
    "pcie5": {2: AllReduce(4, 36), 4: AllReduce(16, 28), 8: AllReduce(31, 12)},
    # L40S (aiconfigurator).
    "pcie4": {2: AllReduce(5, 19), 4: AllReduce(14, 5.5), 8: AllReduce(27, 2.4)},
}
NVSWITCH_REFERENCE_GB_PER_S = 900
NVLINK_PAIR_REFERENCE_GB_PER_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """What the scheduler put into one step."""

    prefill: tuple[tuple[int, int], ...] = ()
    """One (tokens, context tokens before them) for each prompt chunk."""
    decode_rows: int = 0
    decode_context_tokens: int = 0
    """Sum over the decode rows."""
    sampled_rows: int = 0
    """Rows that yield a token: the decodes, and the chunks that complete their prompt."""

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.prefill) + self.decode_rows


class StepModel:
    """Step times of one engine. What depends on the token count alone is computed once for each count."""

    def __init__(self, model: Model, gpu: Gpu, tp: int, link: Link) -> None:
        """Raises ValueError if the heads cannot be split over `tp` GPUs."""
        if tp < 1 or model.heads % tp:
            raise ValueError(f"{model.name} has {model.heads} attention heads, which tp={tp} does not divide")
        self._model = model
        self._tp = tp
        self._bandwidth = gpu.bandwidth_gb_per_s * 1e9
        self._peak = gpu.bf16_tflop_per_s * 1e12
        self._all_reduce = all_reduce(gpu, tp, link)
        # Fewer KV heads than GPUs: each GPU keeps a copy of one.
        kv_heads = max(1.0, model.kv_heads / tp)
        self._kv_width = 2 * kv_heads * model.head_dim
        decode_bandwidth = self._bandwidth * DECODE_ATTENTION_BANDWIDTH_EFFICIENCY
        self._decode_s_per_token = self._kv_width * BF16_BYTES / decode_bandwidth
        flop_per_pair = 4 * model.head_dim * model.heads / tp
        self._prefill_s_per_pair = flop_per_pair / (self._peak * PREFILL_ATTENTION_PEAK_EFFICIENCY)
        self._linear_s_by_tokens: dict[int, float] = {}
        self._head_s_by_rows: dict[int, float] = {}

    def gpu_s(self, shape: StepShape) -> float:
        """GPU time alone, the part that the measured kernels cover."""
        attention_s = 0.0
        if shape.decode_rows:
            attention_s += self._decode_attention_s(shape.decode_rows, shape.decode_context_tokens)
        for tokens, before in shape.prefill:
            attention_s += self._prefill_attention_s(tokens, before)
        return self._linear_s(shape.tokens) + attention_s + self._head_s(shape.sampled_rows)

    def step_s(self, shape: StepShape) -> float:
        sequences = shape.decode_rows + len(shape.prefill)
        return self.gpu_s(shape) + CPU_STEP_S + CPU_SEQUENCE_S * sequences

    def _decode_attention_s(self, rows: int, context_tokens: int) -> float:
        model = self._model
        start_s = DECODE_ATTENTION_START_S + DECODE_ATTENTION_ROW_S * rows
        layer_tokens = model.global_layers * context_tokens
        if model.sliding_window is not None:
            # By the mean context: the window of single rows is not in the shape.
            layer_tokens += model.local_layers * min(context_tokens, rows * model.sliding_window)
        return model.layers * start_s + layer_tokens * self._decode_s_per_token

    def _prefill_attention_s(self, tokens: int, before: int) -> float:
        model = self._model
        seen = before + tokens / 2
        layer_context = model.global_layers * seen
        if model.sliding_window is not None:
            layer_context += model.local_layers * min(seen, model.sliding_window)
        return layer_context * tokens * self._prefill_s_per_pair

    def _linear_s(self, tokens: int) -> float:
        known = self._linear_s_by_tokens.get(tokens)
        if known is None:
            known = self._linear_s_by_tokens[tokens] = self._model.layers * self._layer_s(tokens)
        return known

    def _layer_s(self, tokens: int) -> float:
        """One layer without attention: four GEMMs, two all-reduces, the elementwise rest."""
        model, tp = self._model, self._tp
        query_width = model.heads * model.head_dim / tp
        gated_width = 2 * model.intermediate / tp
        gemm_s = (
            self._gemm_s(tokens, query_width + self._kv_width, model.hidden)
            + self._gemm_s(tokens, model.hidden, query_width)
            + self._gemm_s(tokens, gated_width, model.hidden)
            + self._gemm_s(tokens, model.hidden, gated_width / 2)
        )
        hidden_bytes = tokens * model.hidden * BF16_BYTES
        reduce_s = 0.0
        if self._all_reduce is not None:
            bus = self._all_reduce.bus_gb_per_s * 1e9
            reduce_s = self._all_reduce.start_us * US + 2 * (tp - 1) / tp * hidden_bytes / bus
        # Two norms read and write hidden state and residual; query, keys and values are read and written by the
        # rotary embedding; the activation reads two rows and writes one.
        values = tokens * (8 * model.hidden + 2 * (query_width + self._kv_width) + 1.5 * gated_width)
        elementwise_bandwidth = self._bandwidth * ELEMENTWISE_BANDWIDTH_EFFICIENCY
        elementwise_s = ELEMENTWISE_START_S + values * BF16_BYTES / elementwise_bandwidth
        return gemm_s + 2 * reduce_s + elementwise_s

    def _head_s(self, rows: int) -> float:
        if rows == 0:
            return 0.0
        known = self._head_s_by_rows.get(rows)
        if known is None:
            known = self._gemm_s(rows, self._model.vocab / self._tp, self._model.hidden)
            self._head_s_by_rows[rows] = known
        return known

    def _gemm_s(self, rows: int, columns: float, inner: float) -> float:
        """Memory and compute time joined by a cubic mean: near the larger one, above both where they meet."""
        transferred = BF16_BYTES * (columns * inner + rows * (columns + inner))
        memory_s = transferred / (self._bandwidth * GEMM_BANDWIDTH_EFFICIENCY)
        compute_s = 2.0 * rows * columns * inner / (self._peak * GEMM_PEAK_EFFICIENCY)
        return GEMM_START_S + float((memory_s**3 + compute_s**3) ** (1 / 3))


def all_reduce(gpu: Gpu, tp: int, link: Link) -> AllReduce | None:
    """None for one GPU. A size between two known ones costs what the next larger does.

    NVLink of another speed than the reference's is taken to scale the bus bandwidth (an assumption).
    """
    if tp == 1:
        return None
    size = 2 if tp == 2 else 4 if tp <= 4 else 8
    cost = ALL_REDUCE[link][size]
    if gpu.nvlink_gb_per_s is None:
        return cost
    if link == "nvswitch":
        return AllReduce(cost.start_us, cost.bus_gb_per_s * gpu.nvlink_gb_per_s / NVSWITCH_REFERENCE_GB_PER_S)
    if link == "nvlink_pairs" and size == 2:
        return AllReduce(cost.start_us, cost.bus_gb_per_s * gpu.nvlink_gb_per_s / NVLINK_PAIR_REFERENCE_GB_PER_S)
    return cost


def step_time_s(model: Model, gpu: Gpu, tp: int, link: Link, shape: StepShape) -> float:
    """One step, GPU and visible CPU time. For many steps of one engine keep a `StepModel`."""
    return StepModel(model, gpu, tp, link).step_s(shape)


def expected_request_s(
    model: Model,
    gpu: Gpu,
    tp: int,
    link: Link,
    *,
    engines: int,
    concurrent: float,
    input_tokens: float,
    output_tokens: float,
    max_num_seqs: int = 256,
) -> float:
    """Mean end-to-end time of a request in a closed loop of `concurrent` users spread evenly over `engines`.

    Closed form: with C users on an engine, `output * t_decode(C) + C * t_prefill`, where t_prefill is what one prompt
    adds to a decode step (each user's prefill delays all C). Users beyond what the sequence limit or the KV cache
    admits wait in proportion. Within 6 % of the discrete-event model below those limits, within 15 % above them.
    """
    step_model = StepModel(model, gpu, tp, link)
    users = max(1.0, concurrent / engines)
    context_tokens = input_tokens + output_tokens / 2
    kv_room = kv_tokens(model, gpu, tp, max_num_seqs=max_num_seqs) / context_tokens
    admitted = max(1.0, min(users, max_num_seqs, kv_room))
    rows = round(admitted)
    rows_context_tokens = round(rows * context_tokens)
    decode_s = step_model.step_s(
        StepShape(decode_rows=rows, decode_context_tokens=rows_context_tokens, sampled_rows=rows)
    )
    prompt = ((max(1, round(input_tokens)), 0),)
    mixed_s = step_model.step_s(
        StepShape(prefill=prompt, decode_rows=rows, decode_context_tokens=rows_context_tokens, sampled_rows=rows + 1)
    )
    busy_s = output_tokens * decode_s + admitted * (mixed_s - decode_s)
    return busy_s * users / admitted
