"""llama.cpp's metrics page (with `--metrics`), as a scrape of its server has it (xllamacpp, November 2026).

Its samples have no labels, there is no histogram, and `prompt_tokens_total` leaves out what the cache had.
"""

from loadstair.simserver.exposition import Page
from loadstair.simserver.metrics import EngineMetrics, EngineState, add_own_families


def llamacpp_page(state: EngineState, metrics: EngineMetrics) -> str:
    counted, cached = state.counters, metrics.prompt_tokens_cached
    computed, generated = counted.prompt_tokens - cached, counted.generation_tokens - metrics.pooled
    steps = metrics.step_s.count
    page = Page({})
    for name, about, value in (
        ("prompt_tokens", "Prompt tokens computed.", computed),
        ("prompt_tokens_cached", "Prompt tokens found in the cache.", cached),
        ("prompt_seconds", "Time spent on prompts.", metrics.prefill_s.sum),
        ("tokens_predicted", "Output tokens.", generated),
        ("tokens_predicted_seconds", "Time spent on output.", metrics.decode_s.sum),
        ("n_decode", "Steps.", steps),
        ("spec_decode_num_draft_tokens", "Drafted tokens.", counted.draft_tokens),
        ("spec_decode_num_accepted_tokens", "Drafts accepted.", counted.accepted_tokens),
        ("spec_decode_num_drafts", "Steps with drafts to verify.", counted.drafts),
    ):
        page.counter(f"llamacpp:{name}_total", about, value)
    for name, about, value in (
        ("prompt_tokens_seconds", "Prompt tokens a second.", _rate(computed, metrics.prefill_s.sum)),
        ("predicted_tokens_seconds", "Output tokens a second.", _rate(generated, metrics.decode_s.sum)),
        ("requests_processing", "Requests in a slot.", state.running),
        ("requests_deferred", "Requests that wait for a slot.", state.waiting),
        ("n_busy_slots_per_decode", "Slots that a step served, on average.", _rate(metrics.busy_rows, steps)),
    ):
        page.gauge(f"llamacpp:{name}", about, value)
    add_own_families(page, metrics)
    return page.text()


def _rate(amount: float, over: float) -> float:
    return amount / over if over else 0.0
