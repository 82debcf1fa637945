"""SGLang's metrics page (with `--enable-metrics`), as far as the engine has something to say.

Source of names and buckets: sgl-project/sglang, srt/observability/metrics_collector.py at 44cedc2b.
"""

from loadstair.simserver.exposition import Page
from loadstair.simserver.metrics import Buckets, EngineMetrics, EngineState, add_own_families

SGLANG_BUCKETS = Buckets(
    ttft_s=(*(0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400),),
    itl_s=(
        *(0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.060, 0.080, 0.100),
        *(0.200, 0.400, 0.600, 0.800, 1.000, 2.000, 4.000, 6.000, 8.000),
    ),
    request_s=(
        *(0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400),
        *(600, 1200, 1800, 2400),
    ),
    iteration_tokens=(1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
)
UNFINISHED = ("abort", "error")


def sglang_page(state: EngineState, metrics: EngineMetrics) -> str:
    """Token counters grow when a request ends, as there."""
    page = Page({"engine_type": "unified", "model_name": state.model_name, "pp_rank": "0", "tp_rank": "0"})
    cached, prompts = metrics.prompt_tokens_cached, state.counters.prompt_tokens
    page.gauge("sglang:num_running_reqs", "Requests in the running batch.", state.running)
    page.gauge("sglang:num_queue_reqs", "Requests in the queue.", state.waiting)
    page.gauge("sglang:num_used_tokens", "Tokens of KV cache in use.", state.blocks_used * state.block_size)
    page.gauge("sglang:token_usage", "Share of the KV cache in use, from 0 to 1.", state.kv_usage)
    page.gauge("sglang:max_total_num_tokens", "Room of the KV cache in tokens.", state.blocks * state.block_size)
    page.gauge(
        "sglang:cache_hit_rate", "Share of prompt tokens found in the cache.", cached / prompts if prompts else 0
    )
    page.info(
        "sglang:cache_config_info",
        "Pages of the KV cache, in the labels.",
        {"page_size": str(state.block_size), "num_pages": str(state.blocks)},
    )
    page.counter("sglang:prompt_tokens_total", "Prompt tokens of ended requests.", metrics.prompt_lengths.sum)
    page.counter("sglang:generation_tokens_total", "Output tokens of ended requests.", metrics.generation_lengths.sum)
    page.counters("sglang:cached_tokens_total", "Prompt tokens from a cache.", {"device": cached}, by="cache_source")
    ended = sum(count for reason, count in metrics.finished.items() if reason not in UNFINISHED)
    page.counter("sglang:num_requests_total", "Requests that ended.", ended)
    page.counter("sglang:num_aborted_requests_total", "Requests that were aborted.", metrics.finished["abort"])
    page.counter(
        "sglang:num_retracted_requests_total", "Sequences that gave up their KV cache.", state.counters.preemptions
    )
    page.histogram("sglang:time_to_first_token_seconds", "From arrival to the first token.", metrics.ttft_s)
    page.histogram("sglang:inter_token_latency_seconds", "From one token to the next.", metrics.itl_s)
    page.histogram("sglang:e2e_request_latency_seconds", "From arrival to the end.", metrics.e2e_s)
    page.histogram("sglang:queue_time_seconds", "From arrival to the first step with the request.", metrics.queue_s)
    add_own_families(page, metrics)
    return page.text()
