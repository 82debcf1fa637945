"""Who is sent the key."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadstair.topology.access import ask
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.ports import free_ports, someone_listens
from tests.topology.plans import SCRIPTED_SERVER


@contextmanager
def server() -> Iterator[str]:
    port = free_ports(1)[0]
    command = [sys.executable, str(SCRIPTED_SERVER), str(port), "good"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not someone_listens("127.0.0.1", port):
            assert process.poll() is None
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_the_key_goes_to_the_endpoint_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADSTAIR_TEST_KEY", "secret-9")
    with server() as here, server() as elsewhere:
        endpoint = Endpoint(url=f"{here}/v1", replicas=(), api_key_env="LOADSTAIR_TEST_KEY")
        own = ask(endpoint, f"{here}/v1/models", timeout_s=5)
        other = ask(endpoint, f"{elsewhere}/metrics", timeout_s=5)
    assert own.headers["x-seen-authorization"] == "Bearer secret-9"
    assert other.headers["x-seen-authorization"] == "none"
