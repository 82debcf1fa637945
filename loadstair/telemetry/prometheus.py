"""Prometheus text of inference servers and of the DCGM exporter, in names of our own.

Names differ between servers and change between versions: each of our series lists the samples it may come from, the
current name first, and the first one that a page has wins. A series that a page lacks is left out, never zero.
Sources: vLLM's metrics documentation (v0.8 to v0.31), SGLang's production metrics, llama.cpp's server README, TGI's
metrics reference; DCGM exporter's default-counters.csv (4.6.0-4.8.3) for its names and units.
"""

import math
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from loadstair.fetch import FetchError
from loadstair.telemetry.source import Reading, SourceError
from loadstair.topology.access import ask
from loadstair.topology.endpoint import Endpoint

PAGE_BYTES_MAX = 8 * 1024 * 1024
PAGE_TIMEOUT_S = 2.0

UNFINISHED_REASONS = frozenset({"abort", "error"})
"""vLLM counts requests whose client hung up as `request_success`, too."""

SAMPLES_OF: Mapping[str, tuple[str, ...]] = {
    "engine.requests.running": (
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "llamacpp:requests_processing",
        "tgi_batch_current_size",
    ),
    "engine.requests.waiting": (
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "llamacpp:requests_deferred",
        "tgi_queue_size",
    ),
    "engine.kv.usage": (
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",  # until 0.9
        "sglang:token_usage",
        "llamacpp:kv_cache_usage_ratio",  # older builds
    ),
    "engine.preemptions": (
        "vllm:num_preemptions_total",
        "sglang:num_retracted_requests_total",  # num_retracted_reqs is a gauge of one batch
    ),
    "engine.tokens.prompt": (
        "vllm:prompt_tokens_total",
        "sglang:prompt_tokens_total",
        "llamacpp:prompt_tokens_total",
        "tgi_request_input_length_sum",
    ),
    "engine.tokens.generated": (
        "vllm:generation_tokens_total",
        "sglang:generation_tokens_total",
        "llamacpp:tokens_predicted_total",
        "tgi_request_generated_tokens_sum",
    ),
    "engine.requests.finished": (
        "vllm:request_success_total",
        "sglang:num_requests_total",
        "tgi_request_success_total",
        "tgi_request_success",
    ),
    "engine.prefix.queries": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
        "sglang:prompt_tokens_total",
        "llamacpp:prompt_tokens_total",
    ),
    "engine.prefix.hits": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
        "sglang:cached_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ),
    "engine.ttft.sum": ("vllm:time_to_first_token_seconds_sum", "sglang:time_to_first_token_seconds_sum"),
    "engine.ttft.count": ("vllm:time_to_first_token_seconds_count", "sglang:time_to_first_token_seconds_count"),
    "engine.itl.sum": (
        "vllm:inter_token_latency_seconds_sum",
        "vllm:time_per_output_token_seconds_sum",  # until 0.11, the same meaning
        "sglang:inter_token_latency_seconds_sum",
    ),
    "engine.itl.count": (
        "vllm:inter_token_latency_seconds_count",
        "vllm:time_per_output_token_seconds_count",
        "sglang:inter_token_latency_seconds_count",
    ),
    "engine.resident_memory_bytes": ("process_resident_memory_bytes",),  # of the page's own process alone
    "engine.sim.step_lateness.sum": ("loadstair_sim_step_lateness_seconds_sum",),
    "engine.sim.step_lateness.count": ("loadstair_sim_step_lateness_seconds_count",),
    "engine.sim.step.sum": ("loadstair_sim_step_seconds_sum",),
    "engine.sim.step.count": ("loadstair_sim_step_seconds_count",),
}
"""Sums are seconds, tokens or requests; `engine.kv.usage` is a ratio from 0 to 1."""

COUNTED_APART: Mapping[str, str] = {"llamacpp:prompt_tokens_total": "llamacpp:prompt_tokens_cached_total"}
"""llama.cpp leaves the prompt tokens that its cache had out of its total; every other server's total has them."""

RATIOS = frozenset({"engine.kv.usage"})
OF_ANY_SERVER = frozenset({"engine.resident_memory_bytes"})
"""Series that tell nothing of what kind of server it is."""

DCGM_UNITS: Mapping[str, tuple[str, float]] = {
    "DCGM_FI_DEV_GPU_UTIL": ("gpu.utilization", 0.01),  # %
    "DCGM_FI_DEV_FB_USED": ("gpu.memory_used_bytes", 2.0**20),  # MiB
    "DCGM_FI_DEV_POWER_USAGE": ("gpu.power_watts", 1.0),
}
"""Our series (as `loadstair.telemetry.gpu` defines them) and what one of DCGM's units is in ours.

DCGM's memory leaves out what the driver reserves, a few hundred MiB that NVML counts.
"""

DCGM_BLANK = 2.0**47
"""From here on a value is one of DCGM's marks for "not known": its blank double; its blank integers lie above."""

DCGM_LABELS = ("gpu", "GPU_I_ID")
"""The exporter's index of the GPU, and under MIG of the instance; a container counts the GPUs that it sees from 0."""

_WANTED = frozenset(name for names in SAMPLES_OF.values() for name in names) | frozenset(COUNTED_APART.values())
_NAME_END = re.compile(r"[{\s]")


def engine_series(page: str) -> dict[str, float]:
    """Our series that the page has, each over all of its label sets: added up, ratios by their largest.

    `engine.requests.finished` leaves out the requests that vLLM says were aborted or failed.
    Raises ValueError if one of their lines is no Prometheus text.
    """
    values: dict[str, list[float]] = {}
    for name, labels, value in _wanted_samples(page, _WANTED):
        if not math.isnan(value) and labels.get("finished_reason") not in UNFINISHED_REASONS:
            values.setdefault(name, []).append(value)
    for name, apart in COUNTED_APART.items():
        if name in values:
            values[name] = values[name] + values.get(apart, [])
    series: dict[str, float] = {}
    for ours, candidates in SAMPLES_OF.items():
        found = next((values[name] for name in candidates if name in values), None)
        if found is not None:
            value = float(max(found) if ours in RATIOS else sum(found))
            if math.isfinite(value):
                series[ours] = value
    return series


def gpu_readings(page: str) -> list[Reading]:
    """One for each GPU and series that a DCGM exporter's page has.

    Raises ValueError if one of their lines is no Prometheus text.
    """
    readings = []
    for name, labels, value in _wanted_samples(page, DCGM_UNITS.keys()):
        series, unit = DCGM_UNITS[name]
        if 0 <= value < DCGM_BLANK:
            which = ",".join(f'{label}="{labels[label]}"' for label in DCGM_LABELS if labels.get(label))
            readings.append(Reading(series=series, value=value * unit, labels=which))
    return readings


def _wanted_samples(page: str, names: Set[str]) -> Iterator[tuple[str, Mapping[str, str], float]]:
    # Most of a page is buckets that nobody reads, and the parser's time is taken from the load generator's machine.
    wanted = (line for line in page.splitlines() if _NAME_END.split(line, 1)[0] in names)
    for family in text_string_to_metric_families("\n".join(wanted) + "\n"):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def fetch_engine_series(endpoint: Endpoint, metrics_url: str) -> dict[str, float]:
    """Raises SourceError if the page does not come or is no Prometheus text."""
    page = fetch_page(endpoint, metrics_url)
    try:
        return engine_series(page)
    except ValueError as error:
        raise SourceError(f"{metrics_url}: no Prometheus text: {error}") from error


def fetch_page(endpoint: Endpoint, url: str) -> str:
    """Raises SourceError if the page does not come."""
    try:
        answer = ask(endpoint, url, timeout_s=PAGE_TIMEOUT_S, body_bytes_max=PAGE_BYTES_MAX)
    except FetchError as error:
        raise SourceError(str(error)) from error
    if answer.status != 200:
        raise SourceError(f"{url}: HTTP {answer.status}")
    return answer.text()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPage:
    """An engine's /metrics as a source."""

    name: str
    endpoint: Endpoint
    url: str
    kind: str = "metrics page"

    def read(self) -> list[Reading]:
        series = fetch_engine_series(self.endpoint, self.url)
        if not series.keys() - OF_ANY_SERVER:
            raise SourceError(f"{self.url}: has no series of a known inference server")
        return [Reading(series=ours, value=value) for ours, value in series.items()]
