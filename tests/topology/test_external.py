import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadstair.errors import TopologyError
from loadstair.topology.external import base_url
from loadstair.topology.ports import free_ports, someone_listens
from tests.telemetry.scripted_page import served_page
from tests.topology.conftest import BringUp
from tests.topology.plans import SCRIPTED_SERVER, plan_of


@pytest.fixture
def server_url() -> Iterator[str]:
    port = free_ports(1)[0]
    with subprocess.Popen(
        [sys.executable, str(SCRIPTED_SERVER), str(port), "good"], stderr=subprocess.DEVNULL
    ) as process:
        while not someone_listens("127.0.0.1", port):
            assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def external(url: str, **keys: object) -> dict[str, object]:
    return {"name": "there", "kind": "external", "url": url, **keys}


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://host/proxy", "https://host/proxy/v1"),
        ("https://host/proxy/v1", "https://host/proxy/v1"),
    ],
)
def test_v1_is_added_unless_the_path_ends_in_it(given: str, base: str) -> None:
    assert base_url(given) == base


def test_a_server_that_is_up_is_taken_as_it_is(bring_up_first: BringUp, server_url: str) -> None:
    with bring_up_first(plan_of(external(server_url))) as running:
        running.check()
        (replica,) = running.endpoint.replicas
        assert running.endpoint.url == f"{server_url}/v1"
        assert replica.pid is None
        assert replica.metrics_url is None  # behind a balancer the endpoint's own page would be any engine's


def test_replicas_and_metrics_pages_are_taken_from_the_plan(bring_up_first: BringUp, server_url: str) -> None:
    with bring_up_first(plan_of(external(server_url, replicas=[server_url]))) as by_replica:
        pass
    with bring_up_first(plan_of(external(server_url, metrics=[server_url]))) as by_page:
        pass
    assert by_replica.endpoint.replicas[0].metrics_url == f"{server_url}/metrics"
    assert by_page.endpoint.replicas[0].metrics_url == f"{server_url}/metrics"
    assert by_replica.endpoint.upstreams == {server_url.removeprefix("http://"): "engine0"}


def test_a_refused_endpoint_is_an_error_of_the_topology(bring_up_first: BringUp) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(TopologyError, match=f"topology there: {url}/v1/models: connection refused") as caught:
        bring_up_first(plan_of(external(url))).__enter__()
    assert caught.value.exit_code == 3


def test_an_endpoint_that_may_take_its_time_is_waited_for(bring_up_first: BringUp) -> None:
    port = free_ports(1)[0]
    plan = plan_of(external(f"http://127.0.0.1:{port}", ready_timeout_s=60))
    with subprocess.Popen([sys.executable, str(SCRIPTED_SERVER), str(port), "good"], stderr=subprocess.DEVNULL) as late:
        assert not someone_listens("127.0.0.1", port)
        with bring_up_first(plan) as running:
            running.check()
        late.terminate()


def test_a_balancer_whose_engines_still_load_is_waited_for(bring_up_first: BringUp) -> None:
    statuses = []

    def answer(count: int) -> int:
        statuses.append(503 if count < 2 else 404)
        return statuses[-1]

    with served_page(answer) as page, pytest.raises(TopologyError, match="to one small request"):
        bring_up_first(plan_of(external(page.removesuffix("/metrics"), ready_timeout_s=60))).__enter__()
    assert statuses[:3] == [503, 503, 404]


def test_waiting_ends_with_its_time(bring_up_first: BringUp) -> None:
    plan = plan_of(external(f"http://127.0.0.1:{free_ports(1)[0]}", ready_timeout_s=0.7))
    with pytest.raises(TopologyError, match="connection refused"):
        bring_up_first(plan).__enter__()


def test_pages_beyond_those_of_the_replicas_are_telemetry_of_another_kind(
    bring_up_first: BringUp, server_url: str
) -> None:
    pages = ["http://127.0.0.1:9/metrics", "http://127.0.0.1:9400/metrics", "http://127.0.0.1:9/status"]
    with bring_up_first(plan_of(external(server_url, replicas=[server_url], metrics=pages))) as running:
        assert [replica.metrics_url for replica in running.endpoint.replicas] == pages[:1]
        assert running.endpoint.other_pages == tuple(pages[1:])
    with bring_up_first(plan_of(external(server_url, metrics=pages))) as running:
        assert len(running.endpoint.replicas) == 3  # without `replicas` each page stands for one
        assert running.endpoint.other_pages == ()


def test_a_key_whose_variable_is_not_set_is_asked_for(bring_up_first: BringUp, server_url: str) -> None:
    plan = plan_of(external(server_url, api_key_env="LOADSTAIR_TEST_NO_SUCH_KEY"))
    with pytest.raises(TopologyError, match="export LOADSTAIR_TEST_NO_SUCH_KEY="):
        bring_up_first(plan).__enter__()


def test_a_ca_file_that_cannot_be_read_is_named(bring_up_first: BringUp, tmp_path: Path) -> None:
    plan = plan_of(external("https://127.0.0.1:9", tls={"ca": "none.pem"}))
    with pytest.raises(TopologyError, match=r"tls\.ca: .*none\.pem: .*expected a file of PEM certificates"):
        bring_up_first(plan).__enter__()


def test_an_endpoint_that_accepts_and_says_nothing_is_given_up(bring_up_first: BringUp, foreign_port: int) -> None:
    plan = plan_of(external(f"http://127.0.0.1:{foreign_port}", ready_timeout_s=1))
    with pytest.raises(
        TopologyError, match=r"/v1/models: no answer within [0-9.]+ s; expected an OpenAI-compatible server"
    ):
        bring_up_first(plan).__enter__()
