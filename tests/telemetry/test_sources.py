import os

from loadstair.samples.runrecord import ServerCounters
from loadstair.telemetry.counters import server_counters
from loadstair.telemetry.sources import sources_for
from loadstair.topology.endpoint import Endpoint, Replica
from tests.telemetry.scripted_page import served_page

VLLM = """
vllm:request_success_total{finished_reason="stop"} 3
vllm:generation_tokens_total 40
vllm:prompt_tokens_total 9
"""
NO_REQUESTS = "llamacpp:tokens_predicted_total 2\nllamacpp:prompt_tokens_total 5\n"


def endpoint_of(*metrics_urls: str | None) -> Endpoint:
    replicas = (
        Replica(name=f"engine{index}", url="http://127.0.0.1:1", metrics_url=url)
        for index, url in enumerate(metrics_urls)
    )
    return Endpoint(url="http://127.0.0.1:1/v1", replicas=tuple(replicas))


def test_every_part_of_a_topology_has_its_sources() -> None:
    endpoint = Endpoint(
        url="http://127.0.0.1:1/v1",
        replicas=(Replica(name="engine0", url="http://127.0.0.1:2", metrics_url="http://127.0.0.1:2/metrics", pid=7),),
        balancer_status_url="http://127.0.0.1:1/status",
        balancer_pid=8,
        fingerprint={"kind": "simulated"},
    )
    sources = sources_for(endpoint, "tp2x2", {"worker1": os.getpid()})
    assert sorted((source.name, source.kind) for source in sources) == [
        ("generator/worker1", "process"),
        ("generator/worker1", "process memory"),
        ("host", "host"),
        ("host", "host memory"),
        ("tp2x2/balancer", "process"),
        ("tp2x2/balancer", "status page"),
        ("tp2x2/engine0", "metrics page"),
        ("tp2x2/engine0", "process"),
        ("tp2x2/engine0", "process memory"),
    ]


def test_what_is_not_known_of_a_topology_is_no_source() -> None:
    assert [source.name for source in sources_for(endpoint_of(None), "there", {})] == ["host"]


def test_workers_on_other_hosts_are_asked() -> None:
    sources = sources_for(endpoint_of(None), "there", {}, ask_workers=lambda: ())
    assert [(source.name, source.kind) for source in sources] == [
        ("host", "host"),
        ("generator", "workers on other hosts"),
    ]


def test_server_counters_are_summed_over_the_replicas() -> None:
    with served_page(lambda _: VLLM) as first, served_page(lambda _: VLLM) as second:
        counters = server_counters(endpoint_of(first, second))
    assert counters == ServerCounters(requests_finished=6, output_tokens=80, input_tokens=18)  # twice 3, 40, 9


def test_a_total_that_one_replica_does_not_publish_is_unknown() -> None:
    with served_page(lambda _: VLLM) as first, served_page(lambda _: NO_REQUESTS) as second:
        counters = server_counters(endpoint_of(first, second))
    assert counters == ServerCounters(requests_finished=None, output_tokens=42, input_tokens=14)


def test_a_silent_replica_makes_all_counters_unknown() -> None:
    with served_page(lambda _: VLLM) as first, served_page(lambda _: 404) as second:
        assert server_counters(endpoint_of(first, None)) is None
        assert server_counters(endpoint_of(first, second)) is None
    assert server_counters(endpoint_of()) is None
