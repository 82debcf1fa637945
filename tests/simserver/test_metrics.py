"""The Prometheus page: buckets, escapes, lengths."""

from prometheus_client.parser import text_string_to_metric_families

from loadstair.simserver.metrics import EngineMetrics, Histogram, length_buckets


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


def test_a_model_name_with_quotes_survives_the_page():
    metrics = EngineMetrics(model_name='odd "name" \\ here', max_model_len=100)
    page = metrics.page(gauges={"num_requests_running": 3}, counters={}, cache_config={"block_size": "16"})
    families = {family.name: family for family in text_string_to_metric_families(page)}
    (running,) = families["vllm:num_requests_running"].samples
    assert running.labels["model_name"] == 'odd "name" \\ here'
    assert running.value == 3


def test_finished_requests_are_counted_by_reason():
    metrics = EngineMetrics(model_name="m", max_model_len=100)
    metrics.finished["stop"] += 2
    page = metrics.page(gauges={}, counters={}, cache_config={})
    families = {family.name: family for family in text_string_to_metric_families(page)}
    by_reason = {sample.labels["finished_reason"]: sample.value for sample in families["vllm:request_success"].samples}
    assert (by_reason["stop"], by_reason["length"]) == (2, 0)
