"""How fast engines are with so many requests under way all the time: a closed form over the step-time model.

It holds while nothing waits for keys and values or for a place among max_num_seqs, and for prompts of about one length.
With C requests on an engine, prompts of i and answers of o tokens:

    t_decode   a step with C rows at a context of i + o / 2
    t_prompt   what the prompt's chunks add to the steps they travel in
    request    o * t_decode + C * t_prompt       (each request's prompt delays all C)
    tokens/s   C * o / request                   ITL: (request - TTFT) / (o - 1)

How many prompts come in a step is taken as Poisson, of the mean C / o. A request waits for the step under way, then for
its own, each with the prompts of others. p99 takes those quantiles of their number that came closest to the
discrete-event model. `BANDS` says how far off it was over the reference staircases (tests/sizing): 109 rows of
Qwen2.5-32B on four H100, three topologies, three pairs of lengths, 1 to 256 users, no more than 9/10 of the KV cache;
and over seven loads of prompts beyond the token budget, 4096 to 30000 tokens, which made the mean TTFT's wider.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from loadstair.serving.gpu import Gpu
from loadstair.serving.steptime import StepModel, StepShape
from loadstair.sizing.case import Case

OWN_STEP_QUANTILE = 0.9
WAITED_STEP_QUANTILE = 0.99
ITL_QUANTILE = 0.99
NORMAL_FROM_MEAN = 100


@dataclass(frozen=True, slots=True)
class Expected:
    """A value, and between what the discrete-event model put it where the closed form was held against it."""

    value: float
    low: float
    high: float


BANDS: Final[dict[str, tuple[float, float]]] = {
    "tokens": (0.93, 1.01),
    "ttft_mean": (0.86, 1.45),
    "ttft_p99": (0.57, 1.97),
    "itl_mean": (0.95, 1.05),
    "itl_p99": (0.61, 1.37),
}
"""Discrete-event model / closed form, the lowest and the highest of all loads, rounded outwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Of all engines together; latencies in seconds."""

    output_tokens_per_s: Expected
    requests_per_s: float
    ttft_s_mean: Expected
    ttft_s_p99: Expected
    itl_s_mean: Expected
    itl_s_p99: Expected
    peak_share: float
    """Of the GPUs' arithmetic, by two operations a parameter and token."""


def speed(case: Case, gpu: Gpu, tp: int, engines: int) -> Speed:
    engine = _Engine(case, gpu, tp, engines)
    request_s = engine.request_s
    requests_per_s = case.concurrent / request_s
    flop_per_request = 2 * case.model.linear_parameters * (case.input_tokens + case.output_tokens)
    return Speed(
        output_tokens_per_s=_expected("tokens", requests_per_s * case.output_tokens),
        requests_per_s=requests_per_s,
        ttft_s_mean=_expected("ttft_mean", engine.ttft_s_mean()),
        ttft_s_p99=_expected("ttft_p99", engine.ttft_s_p99()),
        itl_s_mean=_expected("itl_mean", engine.itl_s_mean()),
        itl_s_p99=_expected("itl_p99", engine.itl_s_p99()),
        peak_share=requests_per_s * flop_per_request / (engines * tp * gpu.bf16_tflop_per_s * 1e12),
    )


def _expected(what: str, value: float) -> Expected:
    low, high = BANDS[what]
    return Expected(value, low * value, high * value)


class _Engine:
    """The fullest one of `engines`."""

    def __init__(self, case: Case, gpu: Gpu, tp: int, engines: int) -> None:
        self._steps = StepModel(case.model, gpu, tp, gpu.link, formats=case.formats, efficiencies=case.efficiencies)
        self._input_tokens = case.input_tokens
        self._context_tokens = case.input_tokens + case.output_tokens / 2
        self._budget_tokens = case.batched_tokens(gpu)
        self._engines = engines
        self.rows = case.concurrent_per_engine(engines)
        mean_rows = max(1.0, case.concurrent / engines)
        self._decode_s = self._step_s(self.rows)
        self._prompt_s = self._prompts_s(1, self.rows) - self._decode_s * self._steps_of(1)
        self.request_s = case.output_tokens * self._decode_s + mean_rows * self._prompt_s
        self._output_tokens = case.output_tokens
        self._token_s = self.request_s / case.output_tokens
        self._chunks_per_step = mean_rows / case.output_tokens
        self._others_per_step = self._chunks_per_step * (self.rows - 1) / self.rows

    def ttft_s_mean(self) -> float:
        """The step under way, the own prompt, and what others' prompts add to it."""
        own_s = self._prompts_s(1, self.rows - 1) + self._others_per_step * self._prompt_s
        return own_s + self._token_s * self._waited_share()

    def itl_s_mean(self) -> float:
        """What is left of the request after its first token, for each that follows; of a single token its time."""
        if self._output_tokens == 1:
            return self._token_s
        return (self.request_s - self.ttft_s_mean()) / (self._output_tokens - 1)

    def ttft_s_p99(self) -> float:
        """While the own prompt is computed others come, and of those before it some are not done."""
        others = self._others_per_step * self._steps_of(1)
        beside = min(_poisson_quantile(others, OWN_STEP_QUANTILE), self.rows - 1)
        own_s = self._prompts_s(1 + beside, self.rows - 1)
        if self.rows == 1:
            return own_s
        before = min(_poisson_quantile(others, WAITED_STEP_QUANTILE), self.rows - 1 - beside)
        return own_s + max(self._prompts_s(before, self.rows - 1), self._decode_s)

    def itl_s_p99(self) -> float:
        """The longest step of that many prompts: the last full one, which looks back the farthest."""
        prompts = _poisson_quantile(self._chunks_per_step * self._steps_of(1), ITL_QUANTILE)
        tokens = min(prompts * self._input_tokens, self._budget_tokens)
        return self._step_s(self.rows, tokens, max(0, self._input_tokens - tokens) if prompts else 0)

    def _waited_share(self) -> float:
        """Of a step: a user's next request just misses the step that its own engine begins, and comes amid that of
        another one."""
        if self.rows == 1:
            return 0.0
        own = 1 / self._engines
        return own + (1 - own) / 2

    def _steps_of(self, prompts: int) -> int:
        """That so many prompts take under the token budget."""
        return math.ceil(prompts * self._input_tokens / self._budget_tokens)

    def _prompts_s(self, prompts: int, rows: int) -> float:
        """All the steps that so many prompts travel in, beside `rows` that decode."""
        total, seconds, before = prompts * self._input_tokens, 0.0, 0
        while before < total:
            tokens = min(self._budget_tokens, total - before)
            seconds += self._step_s(rows, tokens, before)
            before += tokens
        return seconds

    def _step_s(self, rows: int, prompt_tokens: int = 0, before: int = 0) -> float:
        """`before`: prompt tokens computed in earlier steps; those of the same prompt are attended to."""
        chunks, completed, left, position = [], 0, prompt_tokens, before
        while left > 0:
            seen = position % self._input_tokens
            tokens = min(left, self._input_tokens - seen)
            chunks.append((tokens, seen))
            completed += seen + tokens == self._input_tokens
            left, position = left - tokens, position + tokens
        shape = StepShape(
            prefill=tuple(chunks),
            decode_rows=rows,
            decode_context_tokens=round(rows * self._context_tokens),
            sampled_rows=rows + completed,
        )
        return self._steps.step_s(shape)


def _poisson_quantile(mean: float, probability: float) -> int:
    """The smallest number that is not exceeded with at least this probability; of large means by the normal law."""
    if mean > NORMAL_FROM_MEAN:
        return math.ceil(NormalDist(mean, math.sqrt(mean)).inv_cdf(probability))
    count, term = 0, math.exp(-mean)
    reached = term
    while reached < probability:
        count += 1
        term *= mean / count
        reached += term
    return count
