"""vLLM's metrics page: names, types, labels and buckets of its V1 engine, as a scrape of 0.32.0 has them.

tests/simserver/data/vllm_families.json holds that scrape's families, and those left out here with the reason.
"""

from loadstair.simserver.exposition import Page
from loadstair.simserver.metrics import Buckets, EngineMetrics, EngineState, add_own_families

VLLM_BUCKETS = Buckets(
    ttft_s=(
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
    ),
    itl_s=(
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        *(20.0, 40.0, 80.0),
    ),
    request_s=(
        *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
        *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
    ),
    iteration_tokens=(1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
)
CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")


def vllm_page(state: EngineState, metrics: EngineMetrics) -> str:
    page = Page({"engine": "0", "model_name": state.model_name})
    _gauges(page, state)
    _counters(page, state, metrics)
    _histograms(page, metrics)
    add_own_families(page, metrics)
    return page.text()


def _gauges(page: Page, state: EngineState) -> None:
    page.gauge("vllm:num_requests_running", "Requests in the running batch.", state.running)
    page.gauge("vllm:num_requests_waiting", "Requests in the queue.", state.waiting)
    page.gauges(
        "vllm:num_requests_waiting_by_reason",
        "Requests in the queue, by what they wait for.",
        {"capacity": state.waiting, "deferred": 0},
        by="reason",
    )
    page.gauges(
        "vllm:engine_sleep_state",
        "1 for the state that the engine is in.",
        {"awake": 1, "weights_offloaded": 0, "discard_all": 0},
        by="sleep_state",
    )
    page.gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, from 0 to 1.", state.kv_usage)
    page.info(
        "vllm:cache_config_info", "Settings of the KV cache, in the labels.", state.cache_config | {"engine": "0"}
    )
    if state.lora is not None:
        labels = {
            "max_lora": str(state.lora.max_loras),
            "running_lora_adapters": ",".join(state.lora.running),
            "waiting_lora_adapters": ",".join(state.lora.waiting),
        }
        page.info(
            "vllm:lora_requests_info", "When the adapters in the labels ran and waited.", labels, state.lora.read_s
        )


def _counters(page: Page, state: EngineState, metrics: EngineMetrics) -> None:
    counted = state.counters
    cached = metrics.prompt_tokens_cached
    plain = (
        ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", counted.prefix_cache_queries),
        ("prefix_cache_hits", "Prompt tokens found in the prefix cache.", counted.prefix_cache_hits),
        ("external_prefix_cache_queries", "Prompt tokens looked up in a cache outside the engine.", 0),
        ("external_prefix_cache_hits", "Prompt tokens found in a cache outside the engine.", 0),
        ("mm_cache_queries", "Images and the like looked up in their cache.", 0),
        ("mm_cache_hits", "Images and the like found in their cache.", 0),
        ("num_preemptions", "Sequences that gave up their KV blocks to others.", counted.preemptions),
        ("prompt_tokens", "Prompt tokens of requests whose prompt is done.", counted.prompt_tokens),
        ("prompt_tokens_cached", "Prompt tokens that need not be computed.", cached),
        ("generation_tokens", "Output tokens.", counted.generation_tokens - metrics.pooled),
    )
    for name, about, value in plain:
        page.counter(f"vllm:{name}_total", about, value)
    page.counters(
        "vllm:prompt_tokens_by_source_total",
        "Prompt tokens by where their keys and values came from.",
        {"local_compute": counted.prompt_tokens - cached, "local_cache_hit": cached, "external_kv_transfer": 0},
        by="source",
    )
    page.counters(
        "vllm:prompt_tokens_cached_by_source_total",
        "Prompt tokens found in a cache, by the cache's tier.",
        dict.fromkeys(CACHE_TIERS, 0) | {"device": counted.prefix_cache_hits},
        by="source",
    )
    page.counters("vllm:request_success_total", "Requests that ended, by why.", metrics.finished, by="finished_reason")
    page.counters(
        "vllm:admission_rejections_total",
        "Requests refused because of a limit of the queue.",
        {"max_num_queued_reqs": counted.admission_rejections, "max_num_queued_tokens": 0},
        by="reason",
        without=("engine",),
    )
    if counted.accepted_by_position:
        page.counter("vllm:spec_decode_num_drafts_total", "Steps with drafts to verify.", counted.drafts)
        page.counter("vllm:spec_decode_num_draft_tokens_total", "Drafted tokens.", counted.draft_tokens)
        page.counter("vllm:spec_decode_num_accepted_tokens_total", "Drafts accepted.", counted.accepted_tokens)
        page.counters(
            "vllm:spec_decode_num_accepted_tokens_per_pos_total",
            "Drafts accepted, by their place in the step.",
            {str(position): count for position, count in enumerate(counted.accepted_by_position)},
            by="position",
        )


def _histograms(page: Page, metrics: EngineMetrics) -> None:
    for name, about, histogram in (
        ("request_prompt_tokens", "Prompt tokens of a request.", metrics.prompt_lengths),
        ("request_generation_tokens", "Output tokens of a request.", metrics.generation_lengths),
        ("iteration_tokens_total", "Tokens in a step.", metrics.iteration_tokens),
        ("request_max_num_generation_tokens", "Longest of a request's choices.", metrics.longest_generations),
        ("request_params_n", "Choices that a request asked for.", metrics.n_asked),
        ("request_params_max_tokens", "Output tokens that a request allowed.", metrics.max_tokens_asked),
        ("time_to_first_token_seconds", "From a request's arrival to its first token.", metrics.ttft_s),
        ("inter_token_latency_seconds", "From one token to the next.", metrics.itl_s),
        ("request_time_per_output_token_seconds", "Mean of a request's gaps.", metrics.tpot_s),
        ("e2e_request_latency_seconds", "From a request's arrival to its end.", metrics.e2e_s),
        ("request_queue_time_seconds", "From arrival to the first step with the request.", metrics.queue_s),
        ("request_inference_time_seconds", "From the first step with the request to its end.", metrics.inference_s),
        ("request_prefill_time_seconds", "From that step's start to the first token.", metrics.prefill_s),
        ("request_decode_time_seconds", "From the first token to the last.", metrics.decode_s),
        ("request_num_preemptions", "How often a request was preempted.", metrics.preemptions),
        ("request_prefill_kv_computed_tokens", "Prompt tokens not found in a cache.", metrics.prefill_computed),
    ):
        page.histogram(f"vllm:{name}", about, histogram)
