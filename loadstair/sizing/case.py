"""What is asked of a deployment."""

import math
from dataclasses import dataclass

from loadstair.serving.efficiencies import FITTED, Efficiencies
from loadstair.serving.formats import BF16, Formats
from loadstair.serving.gpu import Gpu
from loadstair.serving.memory import GPU_MEMORY_UTILIZATION, MAX_NUM_SEQS
from loadstair.serving.model import Model

LARGE_MEMORY_MIB = 70 * 1024
BATCHED_TOKENS_LARGE = 8192
BATCHED_TOKENS_SMALL = 2048
"""vLLM's defaults of max_num_batched_tokens for its API server: the large one from 70 GiB on, but not on an A100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None: not asked for."""

    ttft_s_p99: float | None = None
    itl_s_p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Raises ValueError, in one line, for what no deployment could do."""

    model: Model
    concurrent: int
    """Requests under way at once, over all engines."""
    context_tokens: int
    """For which there must be room: prompt and answer of the longest request."""
    input_tokens: int
    output_tokens: int
    """Of the usual request, for speed and cost."""
    formats: Formats = BF16
    gpu_memory_utilization: float = GPU_MEMORY_UTILIZATION
    max_num_batched_tokens: int | None = None
    """None: vLLM's default on each GPU."""
    limits: Limits = Limits()
    efficiencies: Efficiencies = FITTED
    """Constants of the step times."""
    efficiencies_from: str | None = None
    """What they were fitted to; None: they are those that are shipped."""

    def __post_init__(self) -> None:
        if min(self.concurrent, self.context_tokens, self.input_tokens, self.output_tokens) < 1:
            raise ValueError("concurrent, context, input and output must be at least 1")
        if self.context_tokens > self.model.context_tokens_max:
            raise ValueError(
                f"context {self.context_tokens} is beyond the {self.model.context_tokens_max} tokens of "
                f"{self.model.name}"
            )
        if self.input_tokens + self.output_tokens > self.context_tokens:
            raise ValueError(
                f"{self.input_tokens} input and {self.output_tokens} output tokens do not fit into a context of "
                f"{self.context_tokens}"
            )
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu-memory-utilization is a share above 0, up to 1, not {self.gpu_memory_utilization:g}")

    def batched_tokens(self, gpu: Gpu) -> int:
        return batched_tokens(gpu) if self.max_num_batched_tokens is None else self.max_num_batched_tokens

    def concurrent_per_engine(self, engines: int) -> int:
        """Of the fullest one, when they are spread evenly."""
        return math.ceil(self.concurrent / engines)

    def max_num_seqs(self, engines: int) -> int:
        """vLLM's older default, raised to what an engine is to carry."""
        return max(MAX_NUM_SEQS, self.concurrent_per_engine(engines))


def batched_tokens(gpu: Gpu) -> int:
    """vLLM's default of max_num_batched_tokens on this GPU."""
    is_large = gpu.memory_mib >= LARGE_MEMORY_MIB and not gpu.name.startswith("a100")
    return BATCHED_TOKENS_LARGE if is_large else BATCHED_TOKENS_SMALL
