"""The engine's Prometheus page, with vLLM's names, types, labels and buckets (V1, 0.24 to 0.31), and two of our own:
how late the engine's steps ended against its plan, and how long the plan wanted them.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
ITL_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
REQUEST_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
ITERATION_TOKENS_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
LATENESS_BUCKETS = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0),
)
STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


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


class Histogram:
    """Counts by upper bound (inclusive), as Prometheus has it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            le = "+Inf" if bound is None else repr(float(bound))
            yield f'{name}_bucket{{{labels},le="{le}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum!r}"
        yield f"{name}_count{{{labels}}} {total}"


class EngineMetrics:
    """Histograms and counters of one engine; gauges are asked for when the page is read."""

    def __init__(self, *, model_name: str, max_model_len: int) -> None:
        self.ttft_s = Histogram(TTFT_BUCKETS)
        self.itl_s = Histogram(ITL_BUCKETS)
        self.e2e_s = Histogram(REQUEST_BUCKETS)
        self.queue_s = Histogram(REQUEST_BUCKETS)
        self.prefill_s = Histogram(REQUEST_BUCKETS)
        self.decode_s = Histogram(REQUEST_BUCKETS)
        self.inference_s = Histogram(REQUEST_BUCKETS)
        self.tpot_s = Histogram(ITL_BUCKETS)
        self.iteration_tokens = Histogram(ITERATION_TOKENS_BUCKETS)
        self.prompt_lengths = Histogram(length_buckets(max_model_len))
        self.generation_lengths = Histogram(length_buckets(max_model_len))
        self.max_tokens_asked = Histogram(length_buckets(max_model_len))
        self.lateness_s = Histogram(LATENESS_BUCKETS)
        self.step_s = Histogram(STEP_BUCKETS)
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self._labels = f'engine="0",model_name="{_escaped(model_name)}"'

    def page(self, *, gauges: dict[str, float], counters: dict[str, int], cache_config: dict[str, str]) -> str:
        """`gauges` and `counters` by vLLM's names without prefix (and without `_total`)."""
        lines: list[str] = []
        for name, value in gauges.items():
            lines += _family(f"vllm:{name}", "gauge", [f"vllm:{name}{{{self._labels}}} {float(value)!r}"])
        for name, count in counters.items():
            lines += _family(f"vllm:{name}_total", "counter", [f"vllm:{name}_total{{{self._labels}}} {float(count)!r}"])
        lines += _family("vllm:request_success_total", "counter", self._finished_lines())
        config = ",".join(f'{key}="{_escaped(value)}"' for key, value in cache_config.items())
        lines += _family("vllm:cache_config_info", "gauge", [f'vllm:cache_config_info{{{config},engine="0"}} 1.0'])
        for name, histogram in self._histograms().items():
            lines += _family(name, "histogram", histogram.lines(name, self._labels))
        return "\n".join(lines) + "\n"

    def _finished_lines(self) -> Iterator[str]:
        for reason, count in self.finished.items():
            yield f'vllm:request_success_total{{{self._labels},finished_reason="{reason}"}} {float(count)!r}'

    def _histograms(self) -> dict[str, Histogram]:
        return {
            "vllm:time_to_first_token_seconds": self.ttft_s,
            "vllm:inter_token_latency_seconds": self.itl_s,
            "vllm:request_time_per_output_token_seconds": self.tpot_s,
            "vllm:e2e_request_latency_seconds": self.e2e_s,
            "vllm:request_queue_time_seconds": self.queue_s,
            "vllm:request_prefill_time_seconds": self.prefill_s,
            "vllm:request_decode_time_seconds": self.decode_s,
            "vllm:request_inference_time_seconds": self.inference_s,
            "vllm:iteration_tokens_total": self.iteration_tokens,
            "vllm:request_prompt_tokens": self.prompt_lengths,
            "vllm:request_generation_tokens": self.generation_lengths,
            "vllm:request_params_max_tokens": self.max_tokens_asked,
            "loadstair_sim_step_lateness_seconds": self.lateness_s,
            "loadstair_sim_step_seconds": self.step_s,
        }


def _family(name: str, kind: str, samples: Iterator[str] | list[str]) -> list[str]:
    return [f"# HELP {name} Simulated engine.", f"# TYPE {name} {kind}", *samples]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
