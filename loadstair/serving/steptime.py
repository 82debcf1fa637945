"""How long one step of an engine takes: a roofline with fitted efficiencies, per layer and GPU. Pure.

Fitted to kernel times measured with vLLM 0.24 on H100 (the tables of ai-dynamo/aiconfigurator) for Qwen2.5-32B in BF16,
TP 1 to 4: mean |log error| 4 %, at most 20 % (decode of about 64 rows with all-reduces over PCIe). The equations, and
what stands behind each constant: docs/model.md.
"""

from dataclasses import dataclass

from loadstair.serving.efficiencies import FITTED, Efficiencies
from loadstair.serving.formats import (
    BF16,
    BF16_BYTES,
    Formats,
    WeightFormat,
    bytes_per_kv_value,
    bytes_per_linear_weight,
)
from loadstair.serving.gpu import Gpu, Link
from loadstair.serving.links import all_reduce
from loadstair.serving.memory import kv_copies, memory_budget
from loadstair.serving.model import Model

__all__ = [
    "FITTED",
    "Efficiencies",
    "StepModel",
    "StepShape",
    "expected_request_s",
    "step_time_s",
    "throughput_closed_form",
]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gemm:
    """What a matrix product reaches, and the bytes of what goes into it."""

    start_s: float
    bytes_per_s: float
    flop_per_s: float
    weight_bytes: float
    input_bytes: float

    def seconds(self, rows: int, columns: float, inner: float) -> float:
        """Memory and compute time joined by a cubic mean: near the larger one, above both where they meet."""
        transferred = self.weight_bytes * columns * inner + rows * (self.input_bytes * inner + BF16_BYTES * columns)
        memory_s = transferred / self.bytes_per_s
        compute_s = 2.0 * rows * columns * inner / self.flop_per_s
        return self.start_s + float((memory_s**3 + compute_s**3) ** (1 / 3))


class StepModel:
    """Step times of one engine. What depends on the token count alone is computed once for each count."""

    def __init__(
        self,
        model: Model,
        gpu: Gpu,
        tp: int,
        link: Link,
        *,
        formats: Formats = BF16,
        efficiencies: Efficiencies = FITTED,
        prefill_step_s: float = 0.0,
    ) -> None:
        """`prefill_step_s` is what every step with a prompt chunk costs besides.

        Raises ValueError if the heads cannot be split over `tp` GPUs.
        """
        if tp < 1 or model.heads % tp:
            raise ValueError(f"{model.name} has {model.heads} attention heads, which tp={tp} does not divide")
        self.efficiencies = efficiencies
        self._model = model
        self._gpu = gpu
        self._tp = tp
        self._link: Link = link
        self.formats = formats
        self._prefill_step_s = prefill_step_s
        self._cut_prompt_s = model.layers * efficiencies.cut_prompt_layer_s
        self._cpu_step_s, self._cpu_sequence_s = efficiencies.cpu_step_s, efficiencies.cpu_sequence_s
        self._all_reduce = all_reduce(gpu, tp, link)
        self._linear = _gemm(gpu, formats.weights, efficiencies)
        self._head = _gemm(gpu, "bf16", efficiencies)
        bandwidth = gpu.bandwidth_gb_per_s * 1e9
        self._elementwise_bytes_per_s = bandwidth * efficiencies.elementwise_bandwidth
        self._kv_width = 2 * model.kv_width * kv_copies(model, tp) / tp
        decode_bytes_per_s = bandwidth * efficiencies.decode_attention_bandwidth
        self._decode_s_per_token = self._kv_width * bytes_per_kv_value(formats.kv) / decode_bytes_per_s
        flop_per_pair = 4 * model.query_width / tp
        self._prefill_s_per_pair = flop_per_pair / (gpu.bf16_tflop_per_s * 1e12 * efficiencies.prefill_attention_peak)
        self._decode_start_s = model.layers * efficiencies.decode_attention_start_s
        self._decode_row_s = model.layers * efficiencies.decode_attention_row_s
        self._linear_s_by_tokens: dict[int, float] = {}
        self._head_s_by_rows: dict[int, float] = {0: 0.0}

    def with_efficiencies(self, efficiencies: Efficiencies) -> "StepModel":
        """The same engine with other constants."""
        return StepModel(
            self._model,
            self._gpu,
            self._tp,
            self._link,
            formats=self.formats,
            efficiencies=efficiencies,
            prefill_step_s=self._prefill_step_s,
        )

    def gpu_s(self, shape: StepShape) -> float:
        """GPU time alone, the part that the measured kernels cover."""
        tokens = rows = shape.decode_rows
        attention_s = self._decode_attention_s(rows, shape.decode_context_tokens) if rows else 0.0
        for chunk_tokens, before in shape.prefill:
            tokens += chunk_tokens
            attention_s += self._prefill_attention_s(chunk_tokens, before)
        linear_s = self._linear_s_by_tokens.get(tokens)
        if linear_s is None:
            linear_s = self._linear_s_by_tokens[tokens] = self._model.layers * self._layer_s(tokens)
        head_s = self._head_s_by_rows.get(shape.sampled_rows)
        if head_s is None:
            head_s = self._head_s_by_rows[shape.sampled_rows] = self._head_s(shape.sampled_rows)
        return linear_s + attention_s + head_s

    def step_s(self, shape: StepShape) -> float:
        """GPU time, the visible time of the CPU, and what prompts cost besides: any, and those that are cut."""
        chunks = len(shape.prefill)
        step_s = self.gpu_s(shape) + self._cpu_step_s + self._cpu_sequence_s * (shape.decode_rows + chunks)
        if chunks:
            step_s += self._prefill_step_s
            # Every decode row and every completed prompt yields a token.
            if shape.decode_rows + chunks > shape.sampled_rows:
                step_s += self._cut_prompt_s
        return step_s

    def _decode_attention_s(self, rows: int, context_tokens: int) -> float:
        model = self._model
        layer_tokens = model.layers * context_tokens
        if model.sliding_window is not None:
            # By the mean context: the window of single rows is not in the shape.
            local_tokens = min(context_tokens, rows * model.sliding_window)
            layer_tokens = model.global_layers * context_tokens + model.local_layers * local_tokens
        return self._decode_start_s + self._decode_row_s * rows + layer_tokens * self._decode_s_per_token

    def _prefill_attention_s(self, tokens: int, before: int) -> float:
        model = self._model
        seen = before + tokens / 2
        layer_context = model.layers * seen
        if model.sliding_window is not None:
            layer_context = model.global_layers * seen + model.local_layers * min(seen, model.sliding_window)
        return layer_context * tokens * self._prefill_s_per_pair

    def _layer_s(self, tokens: int) -> float:
        """One layer without attention: four GEMMs, two all-reduces, the elementwise rest."""
        model, tp, gemm_s = self._model, self._tp, self._linear.seconds
        query_width = model.query_width / tp
        gated_width = 2 * model.intermediate / tp
        gemms_s = (
            gemm_s(tokens, query_width + self._kv_width, model.hidden)
            + gemm_s(tokens, model.hidden, query_width)
            + gemm_s(tokens, gated_width, model.hidden)
            + gemm_s(tokens, model.hidden, gated_width / 2)
        )
        reduce_s = 0.0
        if self._all_reduce is not None:
            reduce_s = self._all_reduce.seconds(tp, tokens * model.hidden * BF16_BYTES)
            reduce_s *= self.efficiencies.all_reduce_time
        # Two norms read and write hidden state and residual; query, keys and values are read and written by the
        # rotary embedding; the activation reads two rows and writes one.
        values = tokens * (8 * model.hidden + 2 * (query_width + self._kv_width) + 1.5 * gated_width)
        elementwise_s = self.efficiencies.elementwise_start_s + values * BF16_BYTES / self._elementwise_bytes_per_s
        return gemms_s + 2 * reduce_s + elementwise_s

    def _head_s(self, rows: int) -> float:
        """The output matrix, which stays BF16."""
        return self._head.seconds(rows, self._model.vocab / self._tp, self._model.hidden)


def _gemm(gpu: Gpu, weights: WeightFormat, efficiencies: Efficiencies) -> _Gemm:
    """Of matrix products with weights of this format on this GPU."""
    bandwidth, peak = gpu.bandwidth_gb_per_s * 1e9, gpu.bf16_tflop_per_s * 1e12
    if weights == "bf16":
        return _Gemm(
            start_s=efficiencies.gemm_start_s,
            bytes_per_s=bandwidth * efficiencies.gemm_bandwidth,
            flop_per_s=peak * efficiencies.gemm_peak,
            weight_bytes=BF16_BYTES,
            input_bytes=BF16_BYTES,
        )
    if weights == "fp8" and gpu.fp8_tflop_per_s is not None:
        return _Gemm(
            start_s=efficiencies.fp8_gemm_start_s,
            bytes_per_s=bandwidth * efficiencies.fp8_gemm_bandwidth,
            flop_per_s=gpu.fp8_tflop_per_s * 1e12 * efficiencies.fp8_gemm_peak,
            weight_bytes=bytes_per_linear_weight(weights),
            input_bytes=1,
        )
    return _Gemm(
        start_s=efficiencies.weight_only_gemm_start_s,
        bytes_per_s=bandwidth * efficiencies.weight_only_gemm_bandwidth,
        flop_per_s=peak * efficiencies.weight_only_gemm_peak,
        weight_bytes=bytes_per_linear_weight(weights),
        input_bytes=BF16_BYTES,
    )


def step_time_s(model: Model, gpu: Gpu, tp: int, link: Link, shape: StepShape, *, formats: Formats = BF16) -> float:
    """One step, GPU and visible CPU time. For many steps of one engine keep a `StepModel`."""
    return StepModel(model, gpu, tp, link, formats=formats).step_s(shape)


def throughput_closed_form(
    step_model: StepModel, *, concurrent: float, input_tokens: float, output_tokens: float
) -> float:
    """Output tokens a second of one engine that has `concurrent` requests under way all the time.

    With C requests, `C * output / (output * t_decode(C) + C * t_prefill)`, where t_prefill is what one prompt adds to a
    decode step: each request's prefill delays all C. What the sequence limit or the KV cache does not admit is the
    caller's to leave out. Against the discrete-event model: mean 2 %, at most 7 %.
    """
    rows = max(1, round(concurrent))
    context_tokens = round(rows * (input_tokens + output_tokens / 2))
    decode_s = step_model.step_s(StepShape(decode_rows=rows, decode_context_tokens=context_tokens, sampled_rows=rows))
    prompt = ((max(1, round(input_tokens)), 0),)
    mixed_s = step_model.step_s(
        StepShape(prefill=prompt, decode_rows=rows, decode_context_tokens=context_tokens, sampled_rows=rows + 1)
    )
    return concurrent * output_tokens / (output_tokens * decode_s + concurrent * (mixed_s - decode_s))


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
    formats: Formats = BF16,
    efficiencies: Efficiencies = FITTED,
) -> float:
    """Mean end-to-end time of a request in a closed loop of `concurrent` users spread evenly over `engines`.

    Closed form. Users beyond what the sequence limit or the KV cache admits wait in proportion. Within 6 % of the
    discrete-event model below those limits, within 15 % above them.
    """
    users = max(1.0, concurrent / engines)
    room = memory_budget(model, gpu, tp, max_num_seqs=max_num_seqs, formats=formats).kv_tokens
    admitted = max(1.0, min(users, max_num_seqs, room / (input_tokens + output_tokens / 2)))
    tokens_per_s = throughput_closed_form(
        StepModel(model, gpu, tp, link, formats=formats, efficiencies=efficiencies),
        concurrent=admitted,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
    return users * output_tokens / tokens_per_s
