"""Whoever can send the form can name a server; the key does not follow."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadstair.clock import Deadline, sleep_s
from tests.explore.headless import CHAT, master_port
from tests.explore.locust_ui import LocustUI, locust_ui

KEY = "sk-of-this-test"
WAIT_S = 20.0
FORM = {"user_count": "1", "spawn_rate": "1", "model": "m"}


@dataclass
class Server:
    """Refuses every request, and keeps what it was sent as Authorization."""

    url: str
    sent: dict[str, set[str | None]] = field(default_factory=dict)
    """By path."""


@contextmanager
def refusing() -> Iterator[Server]:
    kept = Server("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            kept.sent.setdefault(self.path, set()).add(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815  the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chat_keys(ui: LocustUI, server: Server) -> set[str | None]:
    """What a test of the form's sends to the server."""
    answer = ui.post("/swarm", FORM | {"host": server.url}).json()
    assert answer["success"], answer
    deadline = Deadline.after_s(WAIT_S)
    while "/v1/chat/completions" not in server.sent:
        assert not deadline.passed(), ui.child.log_tail()
        sleep_s(0.1)
    ui.post("/stop")
    return server.sent["/v1/chat/completions"]


@pytest.mark.parametrize("processes", [[], pytest.param(["--processes", "1"], marks=pytest.mark.slow)])
def test_the_key_goes_to_the_server_given_at_the_start_and_to_no_other(tmp_path: Path, processes: list[str]) -> None:
    arguments = [*processes, *(master_port() if processes else [])]
    with (
        refusing() as given,
        refusing() as other,
        locust_ui(tmp_path, "--host", given.url, *arguments, locustfile=CHAT, OPENAI_API_KEY=KEY) as ui,
    ):
        assert chat_keys(ui, given) == {f"Bearer {KEY}"}
        assert ui.get("/loadstair/live.json").json()["notice"] is None
        assert not any(f"Bearer {KEY}" == sent for sent in chat_keys(ui, other))
        refused = ui.post("/swarm", FORM | {"host": other.url, "model": ""}).json()
        assert other.sent["/v1/models"] == {None}
        withheld = f"OPENAI_API_KEY is not sent to {other.url}"
        assert withheld in refused["message"]
        assert withheld in ui.get("/loadstair/live.json").json()["notice"]
        assert withheld in ui.log()
        assert KEY not in ui.log()


def test_without_a_server_at_the_start_none_gets_the_key(tmp_path: Path) -> None:
    with refusing() as server, locust_ui(tmp_path, locustfile=CHAT, OPENAI_API_KEY=KEY, OPENAI_BASE_URL="") as ui:
        assert not any(f"Bearer {KEY}" == sent for sent in chat_keys(ui, server))


def test_a_server_of_the_environment_is_one_that_was_given(tmp_path: Path) -> None:
    with (
        refusing() as server,
        locust_ui(tmp_path, locustfile=CHAT, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{server.url}/v1") as ui,
    ):
        assert chat_keys(ui, server) == {f"Bearer {KEY}"}
