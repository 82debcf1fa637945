"""How much of the prompts a prefix cache had, as the responses and the engines' own counters say. Pure."""

from dataclasses import dataclass

import numpy as np

from loadstair.analysis.step.meanwhile import increases
from loadstair.analysis.step.throughput import Window
from loadstair.plan.model import Workload
from loadstair.samples.frame import Samples
from loadstair.samples.readings import Telemetry

TEMPLATE_TOKENS = 48
"""Of each prompt, before its salt: the begin-of-sequence mark and a chat template with its default system prompt, about
40 tokens where it is long; in whole blocks of 16, which are what a cache keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """In one hold. Shares are of the prompts' tokens; None where nothing is said of it."""

    responses_share: float | None
    """As `usage` says, over the requests that say both."""
    engines_share: float | None
    """Hits over queries, as the engines' counters grew."""
    input_tokens: float | None
    """Mean of the prompts; None where the server does not count."""
    preempted: bool
    """A request that resumes finds its own tokens in the cache: the engines' hits then say nothing of the load."""


def cache_use(timed: Samples, telemetry: Telemetry, topology: str, window: Window) -> CacheUse:
    """`timed`: the requests that latency is told from."""
    inputs = timed.requests["input_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    cached = timed.requests["cached_input_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    both = ~np.isnan(inputs) & ~np.isnan(cached)
    total = float(inputs[both].sum())
    counted = inputs[~np.isnan(inputs)]
    queries = _grown(telemetry, topology, "engine.prefix.queries", window)
    hits = _grown(telemetry, topology, "engine.prefix.hits", window)
    return CacheUse(
        responses_share=float(cached[both].sum()) / total if total > 0 else None,
        engines_share=hits / queries if hits is not None and queries else None,
        input_tokens=float(counted.mean()) if len(counted) else None,
        preempted=bool(_grown(telemetry, topology, "engine.preemptions", window)),
    )


def _grown(telemetry: Telemetry, topology: str, series: str, window: Window) -> float | None:
    grown = increases(telemetry, topology, series, window)
    return sum(grown.values()) if grown else None


def share_allowed(workload: Workload, input_tokens: float) -> float:
    """What of prompts of this mean length may be cached: the template, and the prefix that the plan wants shared."""
    return min(1.0, (TEMPLATE_TOKENS + workload.prefix.share * workload.prefix.tokens) / input_tokens)
