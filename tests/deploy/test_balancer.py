"""The nginx configuration that the compose file mounts, run by a real nginx in front of simulated engines."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loadstair.fetch import fetch
from loadstair.telemetry.nginx import balancer_series
from loadstair.topology.nginx import nginx_path
from loadstair.topology.ports import free_ports
from tests.deploy.balancer import CONFIG, ENGINES_ADDRESS, config_here, config_test, running_balancer
from tests.simserver.engine_process import RunningEngine, chat_body, running_engine

pytestmark = pytest.mark.skipif(nginx_path() is None, reason="needs nginx")

RUNNING = "vllm:num_requests_running"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[RunningEngine]]]:
    """The balancer's origin, and the engines behind it as the configuration orders them: a token takes 13 ms."""
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                running_engine(tmp_path_factory.mktemp("engine"), "--host", ENGINES_ADDRESS, "--speed", "1")
            )
            for _ in range(2)
        ]
        ports = {"8001": engines[0].port, "8002": engines[1].port, "8080": free_ports(1)[0]}
        yield stack.enter_context(running_balancer(tmp_path_factory.mktemp("nginx"), ports)), engines


def ask(origin: str, request_id: str = "one") -> Any:
    body = json.dumps(chat_body(max_tokens=2, stream=True)).encode()
    headers = {"X-Request-Id": request_id, "Content-Type": "application/json"}
    answer = fetch(f"{origin}/v1/chat/completions", body=body, headers=headers, timeout_s=30)
    assert answer.status == 200, answer.text()
    return answer


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    tested = config_test(tmp_path, config_here(tmp_path, {"8080": 18080, "8001": 18001, "8002": 18002}))
    assert tested.returncode == 0, tested.stderr


def test_nginx_would_refuse_a_wrong_one(tmp_path: Path) -> None:
    config = config_here(tmp_path, {"8080": 18080, "8001": 18001, "8002": 18002})
    config.write_text(config.read_text().replace("proxy_buffering off;", "proxy_buffering maybe;"))
    assert config_test(tmp_path, config).returncode != 0


def test_requests_go_to_the_engines_in_turn_under_the_names_that_the_plan_has(
    pair: tuple[str, list[RunningEngine]],
) -> None:
    origin, engines = pair
    seen = [ask(origin).headers["x-upstream-addr"] for _ in range(4)]
    names = [f"127.0.0.1:{engine.port}" for engine in engines]  # the engines themselves listen on another address
    assert seen in (names * 2, names[::-1] * 2)


def test_a_token_is_on_its_way_while_the_engine_makes_the_next(pair: tuple[str, list[RunningEngine]]) -> None:
    """By the pieces in which nginx hands them on, which do not depend on when they are read here."""
    pieces = pieces_of_a_stream(pair[0], tokens=60)
    events = sum(piece.count(b"data:") for piece in pieces)
    assert events > 60
    assert len(pieces) > events / 2  # buffered, 4 KB make a piece: a dozen events


def pieces_of_a_stream(origin: str, *, tokens: int) -> list[bytes]:
    """The chunks of the transfer encoding, as RFC 9112 (7.1) has them: size in hexadecimal, CRLF, data, CRLF."""
    host, _, port = origin.removeprefix("http://").partition(":")
    body = json.dumps(chat_body(max_tokens=tokens, stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        stream = connection.makefile("rb")
        while stream.readline().strip():
            pass
        pieces = []
        while size := int(stream.readline(), 16):
            pieces.append(stream.read(size))
            stream.readline()
    return pieces


def test_who_hangs_up_makes_the_engine_stop(pair: tuple[str, list[RunningEngine]]) -> None:
    origin, engines = pair
    host, _, port = origin.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    body = json.dumps(chat_body(max_tokens=2000, stream=True))  # half a minute
    connection.request("POST", "/v1/chat/completions", body=body, headers={"Content-Type": "application/json"})
    assert b"data:" in connection.getresponse().read1(65536)
    assert sum(engine.metric(RUNNING) for engine in engines) == 1
    connection.close()
    for engine in engines:
        engine.wait_for_metric(RUNNING, 0)


def test_the_clients_request_id_and_the_engines_own_name_pass_through(pair: tuple[str, list[RunningEngine]]) -> None:
    origin, engines = pair
    through, straight = fetch(f"{origin}/version", timeout_s=10), engines[0].get("/version")
    assert through.headers["server"] == straight.headers["server"]
    assert ask(origin, "my-own").headers["x-request-id"] == "my-own"


def test_the_status_page_is_one_that_the_telemetry_reads(pair: tuple[str, list[RunningEngine]]) -> None:
    page = fetch(f"{pair[0]}/loadstair/nginx_status", timeout_s=10).text()
    assert balancer_series(page)["balancer.connections.active"] >= 1  # this read


def test_the_form_is_the_one_that_loadstair_gives_nginx_itself() -> None:
    """Each directive of the template's `location /` stands in this one, but for the header's value."""
    template = (CONFIG.parents[2] / "loadstair/topology/nginx.conf.template").read_text(encoding="utf-8")
    assert directives(template) ^ directives(CONFIG.read_text(encoding="utf-8")) == {
        "proxy_set_header Connection @{connection_header};",
        'proxy_set_header Connection "";',
        "add_header X-Upstream-Addr $upstream_addr always;",
        "add_header X-Upstream-Addr $engine always;",
    }


def directives(config: str) -> set[str]:
    inside = config.split("location / {")[1].split("}\n\n")[0]
    lines = {line.strip() for line in inside.splitlines()}
    return {line for line in lines if line.endswith(";")}
