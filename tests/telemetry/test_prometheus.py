import pytest

from loadstair.telemetry.prometheus import MetricsPage, engine_series
from loadstair.telemetry.source import SourceError
from loadstair.topology.endpoint import Endpoint
from tests.telemetry.scripted_page import served_page

VLLM_NEW = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 5.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 7.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 11.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 4.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.5
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_sum{engine="0",model_name="m"} 2.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="m"} 100.0
vllm:time_per_output_token_seconds_sum{engine="0",model_name="m"} 9.0
"""


def test_counts_are_added_over_label_sets_and_ratios_are_the_largest() -> None:
    series = engine_series(VLLM_NEW)
    assert series["engine.requests.running"] == 7  # 3 + 4
    assert series["engine.kv.usage"] == 0.75  # max(0.25, 0.75)


def test_finished_requests_leave_out_the_aborted_ones() -> None:
    assert engine_series(VLLM_NEW)["engine.requests.finished"] == 12  # 5 + 7, without the 11


def test_a_histogram_gives_its_sum_and_count() -> None:
    series = engine_series(VLLM_NEW)
    assert (series["engine.ttft.sum"], series["engine.ttft.count"]) == (0.5, 4)


def test_the_current_name_wins_over_the_old_one() -> None:
    assert engine_series(VLLM_NEW)["engine.itl.sum"] == 2.0  # not time_per_output_token's 9


def test_a_series_that_is_not_there_is_left_out() -> None:
    series = engine_series(VLLM_NEW)
    assert "engine.preemptions" not in series
    assert "engine.itl.count" in series


@pytest.mark.parametrize(
    ("line", "ours", "value"),
    [
        ('vllm:gpu_cache_usage_perc{model_name="m"} 0.5', "engine.kv.usage", 0.5),
        ("vllm:num_preemptions_total 2", "engine.preemptions", 2),
        ("vllm:gpu_prefix_cache_hits_total 9", "engine.prefix.hits", 9),
        ("sglang:num_running_reqs 4", "engine.requests.running", 4),
        ("sglang:num_retracted_requests_total 6", "engine.preemptions", 6),
        ("llamacpp:requests_deferred 8", "engine.requests.waiting", 8),
        ("llamacpp:tokens_predicted_total 80", "engine.tokens.generated", 80),
        ("tgi_queue_size 3", "engine.requests.waiting", 3),
        ("loadstair_sim_step_lateness_seconds_sum 0.25", "engine.sim.step_lateness.sum", 0.25),
        ("loadstair_sim_step_seconds_count 12", "engine.sim.step.count", 12),
    ],
)
def test_other_servers_and_versions_have_other_names(line: str, ours: str, value: float) -> None:
    assert engine_series(f"{line}\n")[ours] == value


def test_sglangs_gauge_of_retracted_requests_is_no_counter_of_preemptions() -> None:
    assert "engine.preemptions" not in engine_series("sglang:num_retracted_reqs 4\n")


def test_llamacpps_cached_prompt_tokens_are_prompt_tokens_too() -> None:
    page = "llamacpp:prompt_tokens_total 22\nllamacpp:prompt_tokens_cached_total 6\n"
    series = engine_series(page)
    assert series["engine.tokens.prompt"] == 28  # 22 + 6
    assert series["engine.prefix.hits"] == 6


def test_not_a_number_is_no_value() -> None:
    assert "engine.kv.usage" not in engine_series("vllm:kv_cache_usage_perc NaN\n")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("vllm:num_requests_running{ 3\n", "no Prometheus text"),
        ("<html>not metrics</html>\n", "no series of a known inference server"),
        ("some_other_program 1\n", "no series of a known inference server"),
        (503, "HTTP 503"),
        ("x" * (9 * 1024 * 1024), "longer than 8388608 bytes"),
    ],
)
def test_a_page_that_is_no_use_is_an_error_of_the_source(answer: str | int, line: str) -> None:
    with served_page(lambda _: answer) as url, pytest.raises(SourceError, match=line):
        MetricsPage(name="a/engine0", endpoint=Endpoint(url="http://127.0.0.1:1/v1", replicas=()), url=url).read()


def test_a_page_of_a_process_that_serves_no_model_is_no_engines() -> None:
    with served_page(lambda _: "process_resident_memory_bytes 5e9") as url:
        page = MetricsPage(name="tp4/engine0", endpoint=Endpoint(url=url, replicas=()), url=url)
        with pytest.raises(SourceError, match="known inference server"):
            page.read()


def test_the_memory_of_the_servers_process_is_told_where_its_page_has_it() -> None:
    series = engine_series(VLLM_NEW + "process_resident_memory_bytes 5e9\n")
    assert series["engine.resident_memory_bytes"] == 5e9
