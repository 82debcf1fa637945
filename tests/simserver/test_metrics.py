"""The Prometheus page: vLLM's families as a scrape of the real one has them; buckets, escapes, lengths."""

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loadstair.simserver.exposition import Histogram, Page
from loadstair.simserver.metrics import EngineMetrics, EngineState, LoraState, length_buckets
from loadstair.simserver.scheduler import Counters
from loadstair.simserver.vllm_page import VLLM_BUCKETS, vllm_page

SCRAPE = json.loads((Path(__file__).parent / "data" / "vllm_families.json").read_text())


def families(counters: Counters | None = None, metrics: EngineMetrics | None = None, **state):
    """The page's families by name."""
    counted = EngineState(
        **{
            "model_name": "m",
            "running": 0,
            "waiting": 0,
            "blocks": 100,
            "blocks_used": 0,
            "block_size": 16,
            "cache_config": {"block_size": "16", "num_gpu_blocks": "100"},
            "counters": counters or Counters(),
        }
        | state
    )
    page = vllm_page(counted, metrics or engine_metrics())
    return {family.name: family for family in text_string_to_metric_families(page)}


def engine_metrics(max_model_len: int = SCRAPE["max_model_len"]) -> EngineMetrics:
    return EngineMetrics(buckets=VLLM_BUCKETS, max_model_len=max_model_len)


def described(family) -> dict:
    labels = {key for sample in family.samples for key in sample.labels}
    shape = {"type": family.type, "labels": sorted(labels - {"le"})}
    told = {key: sorted({sample.labels[key] for sample in family.samples}) for key in labels & set(SCRAPE["told"])}
    if told:
        shape["values"] = told
    if family.type == "histogram":
        bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
        shape["buckets"] = sorted(bounds, key=float)
    return shape


def test_names_types_labels_and_buckets_are_those_of_a_real_vllm():
    page = families()
    for name, wanted in SCRAPE["families"].items():
        if name not in SCRAPE["left_out"] and name != "vllm:cache_config_info":
            assert {name: described(page[name])} == {name: wanted}


def test_what_the_page_says_of_the_cache_the_real_one_says_too():
    labels = described(families()["vllm:cache_config_info"])["labels"]
    assert set(labels) <= set(SCRAPE["families"]["vllm:cache_config_info"]["labels"])
    assert "model_name" not in labels


def test_what_is_left_out_of_vllms_page_is_named_with_its_reason():
    page = families()
    missing = SCRAPE["families"].keys() - page.keys()
    assert missing == {name for name in SCRAPE["left_out"] if name in SCRAPE["families"]}
    assert all(SCRAPE["left_out"].values())
    assert not page.keys() & SCRAPE["left_out"].keys()


def test_nothing_is_on_the_page_that_vllm_does_not_have_but_the_engines_own_step_clock():
    own = {"loadstair_sim_step_lateness_seconds", "loadstair_sim_step_seconds"}
    assert families().keys() - SCRAPE["families"].keys() == own


def test_every_family_says_what_it_is():
    assert all(family.documentation for family in families().values())


def test_speculation_is_on_the_page_of_an_engine_that_drafts():
    counters = Counters(drafts=10, draft_tokens=30, accepted_tokens=21, accepted_by_position=[9, 7, 5])
    page = families(counters)
    assert [page[f"vllm:spec_decode_num_{name}"].samples[0].value for name in ("drafts", "draft_tokens")] == [10, 30]
    assert page["vllm:spec_decode_num_accepted_tokens"].samples[0].value == 21
    per_position = page["vllm:spec_decode_num_accepted_tokens_per_pos"].samples
    assert [(sample.labels["position"], sample.value) for sample in per_position] == [("0", 9), ("1", 7), ("2", 5)]


def test_adapters_are_told_in_labels_with_the_time_as_the_value():
    lora = LoraState(max_loras=2, running=("sql", "chat"), waiting=("code",), read_s=1.5e9)
    (sample,) = families(lora=lora)["vllm:lora_requests_info"].samples
    assert sample.labels == {
        "max_lora": "2",
        "running_lora_adapters": "sql,chat",
        "waiting_lora_adapters": "code",
    }
    assert sample.value == 1.5e9


def test_prompt_tokens_are_told_apart_by_where_they_came_from():
    metrics = engine_metrics()
    metrics.prompt_tokens_cached = 64
    samples = families(Counters(prompt_tokens=100), metrics)["vllm:prompt_tokens_by_source"].samples
    by_source = {sample.labels["source"]: sample.value for sample in samples if sample.name.endswith("_total")}
    assert by_source == {"local_compute": 36, "local_cache_hit": 64, "external_kv_transfer": 0}  # 100 - 64


def test_lengths_are_bucketed_1_2_5_up_to_the_longest():
    assert length_buckets(120) == (1, 2, 5, 10, 20, 50, 100)


def test_a_value_on_a_bound_counts_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.lines("h", 'a="b"')) == [
        'h_bucket{a="b",le="1.0"} 2',  # 0.5, 1.0
        'h_bucket{a="b",le="2.0"} 3',
        'h_bucket{a="b",le="+Inf"} 4',
        'h_sum{a="b"} 12.0',  # 0.5 + 1 + 1.5 + 9
        'h_count{a="b"} 4',
    ]


def test_a_page_without_labels_is_prometheus_text_too():
    page = Page({})
    page.gauge("g", "About g.", 1)
    page.histogram("h", "About h.", Histogram((1.0,)))
    assert [family.name for family in text_string_to_metric_families(page.text())] == ["g", "h"]


def test_a_model_name_with_quotes_survives_the_page():
    (running,) = families(model_name='odd "name" \\ here', running=3)["vllm:num_requests_running"].samples
    assert running.labels["model_name"] == 'odd "name" \\ here'
    assert running.value == 3


def test_finished_requests_are_counted_by_reason():
    metrics = engine_metrics()
    metrics.finished["stop"] += 2
    by_reason = {
        sample.labels["finished_reason"]: sample.value
        for sample in families(metrics=metrics)["vllm:request_success"].samples
    }
    assert (by_reason["stop"], by_reason["length"]) == (2, 0)
