"""What one engine has observed, and what is asked of it when its metrics page is read."""

from dataclasses import dataclass

from loadstair.simserver.exposition import Histogram, Page
from loadstair.simserver.scheduler import Counters

LATENESS_BUCKETS = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0),
)
STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
PREEMPTIONS_BUCKETS = (1, 2, 3, 4, 5, 10, 20)
N_BUCKETS = (1, 2, 5, 10, 20)
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Upper bounds of one kind of server's histograms: seconds, and tokens in a step."""

    ttft_s: tuple[float, ...]
    itl_s: tuple[float, ...]
    request_s: tuple[float, ...]
    iteration_tokens: tuple[float, ...]


def length_buckets(longest: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … up to `longest`, as vLLM buckets token counts."""
    buckets: list[float] = []
    decade = 1
    while True:
        for factor in (1, 2, 5):
            if factor * decade > longest:
                return tuple(buckets)
            buckets.append(factor * decade)
        decade *= 10


class EngineMetrics:
    """Histograms and counters of one engine; gauges are asked for when the page is read."""

    def __init__(self, *, buckets: Buckets, max_model_len: int) -> None:
        lengths = length_buckets(max_model_len)
        self.ttft_s = Histogram(buckets.ttft_s)
        self.itl_s = Histogram(buckets.itl_s)
        self.tpot_s = Histogram(buckets.itl_s)
        self.e2e_s = Histogram(buckets.request_s)
        self.queue_s = Histogram(buckets.request_s)
        self.prefill_s = Histogram(buckets.request_s)
        self.decode_s = Histogram(buckets.request_s)
        self.inference_s = Histogram(buckets.request_s)
        self.iteration_tokens = Histogram(buckets.iteration_tokens)
        self.prompt_lengths = Histogram(lengths)
        self.generation_lengths = Histogram(lengths)
        self.max_tokens_asked = Histogram(lengths)
        self.longest_generations = Histogram(lengths)
        self.prefill_computed = Histogram(lengths)
        self.preemptions = Histogram(PREEMPTIONS_BUCKETS)
        self.n_asked = Histogram(N_BUCKETS)
        self.lateness_s = Histogram(LATENESS_BUCKETS)
        self.step_s = Histogram(STEP_BUCKETS)
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self.prompt_tokens_cached = 0
        """Of prompts whose first token is there."""
        self.pooled = 0
        """Prompts read for an embedding; the scheduler counts a token of output for each, which nobody gets."""
        self.busy_rows = 0
        """Sequences in all steps together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraState:
    """Adapters at the moment the page is read."""

    max_loras: int
    running: tuple[str, ...]
    """With a request in the running batch, each once."""
    waiting: tuple[str, ...]
    read_s: float
    """Unix time, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """An engine at the moment its page is read."""

    model_name: str
    running: int
    waiting: int
    blocks: int
    blocks_used: int
    block_size: int
    counters: Counters
    cache_config: dict[str, str]
    lora: LoraState | None = None
    """None without adapters."""

    @property
    def kv_usage(self) -> float:
        """From 0 to 1."""
        return self.blocks_used / self.blocks


def add_own_families(page: Page, metrics: EngineMetrics) -> None:
    """How late the engine's steps ended against its plan, and how long the plan wanted them; no server has these."""
    page.histogram("loadstair_sim_step_lateness_seconds", "End of a step, later than planned.", metrics.lateness_s)
    page.histogram("loadstair_sim_step_seconds", "Planned duration of a step.", metrics.step_s)
