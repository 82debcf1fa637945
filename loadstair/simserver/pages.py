"""The metrics page of the server that is played."""

from typing import assert_never

from loadstair.simserver.chunks import Dialect
from loadstair.simserver.llamacpp_page import llamacpp_page
from loadstair.simserver.metrics import Buckets, EngineMetrics, EngineState
from loadstair.simserver.sglang_page import SGLANG_BUCKETS, sglang_page
from loadstair.simserver.vllm_page import VLLM_BUCKETS, vllm_page


def buckets_of(dialect: Dialect) -> Buckets:
    """llama.cpp has no histograms: vLLM's do as well."""
    return SGLANG_BUCKETS if dialect == "sglang" else VLLM_BUCKETS


def metrics_page(dialect: Dialect, state: EngineState, metrics: EngineMetrics) -> str:
    match dialect:
        case "vllm":
            return vllm_page(state, metrics)
        case "sglang":
            return sglang_page(state, metrics)
        case "llamacpp":
            return llamacpp_page(state, metrics)
        case unknown:
            assert_never(unknown)
