"""Locust with its web UI as a child process, and a client that sends the headers a browser would."""

import http.client
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from loadstair.child import Child
from loadstair.clock import Deadline, sleep_s
from loadstair.fetch import Answer

ROOT = Path(__file__).parents[2]
FIXED_BOARD = Path(__file__).with_name("fixed_board.py")
START_S = 30.0


@dataclass(frozen=True)
class LocustUI:
    child: Child
    port: int
    base_path: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base_path}"

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Follows no redirect. `source`: the client's address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=(source, 0))
        try:
            connection.request(method, self.base_path + path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, form: Any = (), source: str = "127.0.0.1", **headers: str) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, headers=kind | headers, body=urlencode(form).encode(), source=source)

    def log(self) -> str:
        return self.child.log_path.read_text()


@contextmanager
def locust_ui(
    folder: Path, *arguments: str, locustfile: Path = FIXED_BOARD, base_path: str = "", **variables: str
) -> Iterator[LocustUI]:
    """Waits until it answers."""
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--web-port", str(port), *arguments]
    command += ["--web-base-path", base_path] if base_path else []
    log = folder / f"locust-{port}.log"
    with Child(
        "locust", command, log_path=log, env=os.environ | {"PYTHONPATH": str(ROOT)} | variables, cwd=folder
    ) as child:
        ui = LocustUI(child, port, base_path)
        deadline = Deadline.after_s(START_S)
        while not _answers(ui):
            assert child.exit_status() is None, child.log_tail()
            assert not deadline.passed(), child.log_tail()
            sleep_s(0.05)
        yield ui


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(ui: LocustUI) -> bool:
    try:
        return ui.get("/login").status < 400
    except OSError:
        return False
    except http.client.BadStatusLine:
        return False  # while nobody listens, the kernel may give a connection the port that it goes to: it hears itself
