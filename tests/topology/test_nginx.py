import contextlib
from pathlib import Path
from typing import get_args

import pytest

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.fetch import fetch
from loadstair.topology.nginx import Policy, StartedNginx, find_nginx, render_config, start_nginx
from loadstair.topology.ports import free_ports


def start(stack: contextlib.ExitStack, prefix: Path, *, policy: Policy, upstreams: list[str]) -> StartedNginx:
    return start_nginx(
        stack,
        policy=policy,
        upstreams=upstreams,
        keep_alive=True,
        prefix=prefix,
        topology="arm",
        deadline=Deadline.after_s(20),
        nginx=find_nginx(),
    )


@pytest.mark.parametrize("policy", get_args(Policy))
def test_nginx_takes_the_configuration_of_every_policy(policy: Policy, tmp_path: Path) -> None:
    upstreams = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with contextlib.ExitStack() as stack:
        started = start(stack, tmp_path / "a path; with $signs", policy=policy, upstreams=upstreams)
        page = fetch(started.status_url, timeout_s=5)
        refused = fetch(f"{started.url}/v1/models", timeout_s=5)
    assert "Active connections: 1" in page.text()
    assert refused.status == 502
    assert refused.headers["x-upstream-addr"] in upstreams  # on errors, too


@pytest.mark.parametrize(
    ("policy", "directive"),
    [("least_conn", "least_conn;"), ("random_two", "random two least_conn;"), ("hash", "hash $affinity consistent;")],
)
def test_a_policy_is_nginxs_directive(policy: Policy, directive: str) -> None:
    assert directive in render_config(policy=policy, upstreams=["127.0.0.1:1"], port=2, keep_alive=True)


def test_hash_keeps_a_session_on_one_engine(tmp_path: Path) -> None:
    upstreams = [f"127.0.0.1:{port}" for port in free_ports(4)]
    with contextlib.ExitStack() as stack:
        url = start(stack, tmp_path, policy="hash", upstreams=upstreams).url
        one = {fetch(url, headers={"X-Session-Id": "s1"}, timeout_s=5).headers["x-upstream-addr"] for _ in range(8)}
        many = {
            fetch(url, headers={"X-Session-Id": f"s{n}"}, timeout_s=5).headers["x-upstream-addr"] for n in range(200)
        }
    assert len(one) == 1
    assert many == set(upstreams)


def test_a_refused_configuration_is_told_in_nginxs_words(tmp_path: Path) -> None:
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(TopologyError, match=r"refused its configuration: .*emerg") as caught,
    ):
        start(stack, tmp_path, policy="round_robin", upstreams=["no port here"])
    assert "\n" not in str(caught.value)


def test_a_missing_nginx_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"nginx not found: install it .*apt-get install nginx"):
        find_nginx(search=str(tmp_path))


def test_an_nginx_that_does_not_run_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "nginx"
    broken.write_text("no program")
    broken.chmod(0o755)
    with pytest.raises(TopologyError, match="expected an nginx that runs"):
        find_nginx(search=str(tmp_path))


def test_everything_nginx_writes_is_below_its_prefix(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        started = start(stack, tmp_path, policy="round_robin", upstreams=["127.0.0.1:9"])
        assert (tmp_path / "nginx.pid").read_text().strip() == str(started.child.pid)
    assert (tmp_path / "error.log").exists()


@pytest.mark.slow
def test_a_port_that_is_lost_before_nginx_binds_it_is_replaced(tmp_path: Path, foreign_port: int) -> None:
    ports = iter([foreign_port, free_ports(1)[0]])
    with contextlib.ExitStack() as stack:
        started = start_nginx(
            stack,
            policy="round_robin",
            upstreams=["127.0.0.1:9"],
            keep_alive=False,
            prefix=tmp_path,
            topology="arm",
            deadline=Deadline.after_s(30),
            nginx=find_nginx(),
            find_port=lambda: next(ports),
        )
        assert started.port != foreign_port
        assert fetch(started.status_url, timeout_s=5).status == 200
