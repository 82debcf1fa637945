"""A simulated engine as a child process, and a small client that reads one answer at a time."""

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadstair.child import Child
from loadstair.clock import Deadline, sleep_s
from loadstair.fetch import Answer, fetch
from loadstair.simserver.ledger import LedgerEntry, read_ledger

MODEL = "Qwen/Qwen2.5-32B-Instruct"
START_S = 20.0


@dataclass(frozen=True)
class RunningEngine:
    child: Child
    host: str
    port: int
    ledger_path: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def get(self, path: str) -> Answer:
        return fetch(self.url + path, timeout_s=10)

    def post(self, path: str, fields: Any, headers: dict[str, str] | None = None) -> Answer:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        json_too = {"Content-Type": "application/json"} | (headers or {})
        return fetch(self.url + path, body=body, headers=json_too, timeout_s=30)

    def chat(self, *, words: int = 5, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        return self.post("/v1/chat/completions", chat_body(words=words, **fields), headers)

    def metric(self, name: str) -> float:
        """Sum over the samples of this name."""
        lines = self.get("/metrics").text().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))

    def wait_for_metric(self, name: str, value: float) -> None:
        deadline = Deadline.after_s(START_S)
        while self.metric(name) != value:
            assert not deadline.passed(), f"{name} is {self.metric(name)}, not {value}"
            sleep_s(0.02)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=30)

    def ledger(self) -> list[LedgerEntry]:
        """Stops the engine, for a ledger that is complete."""
        self.child.stop()
        return read_ledger(self.ledger_path)


def chat_body(*, words: int = 5, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "word " * words}], "ignore_eos": True} | fields


def events(answer: Answer) -> list[Any]:
    """The stream's events, `[DONE]` as it stands."""
    data = [line.removeprefix("data: ") for line in answer.text().splitlines() if line]
    return [event if event == "[DONE]" else json.loads(event) for event in data]


@contextmanager
def running_engine(folder: Path, *arguments: str) -> Iterator[RunningEngine]:
    """Fast (speed 20) unless the arguments say otherwise."""
    ledger, log = folder / "ledger.jsonl", folder / "engine.log"
    command = [sys.executable, "-m", "loadstair.simserver", "--port", "0", "--model", MODEL, "--gpu", "h100-nvl"]
    command += ["--tp", "2", "--speed", "20", "--ledger", str(ledger), *arguments]
    with Child("engine", command, log_path=log) as child:
        origin = _origin(child, log)
        host, _, port = origin.rpartition(":")
        yield RunningEngine(child, host, int(port), ledger)


def _origin(child: Child, log: Path) -> str:
    deadline = Deadline.after_s(START_S)
    while not (text := log.read_text()).endswith("\n"):
        assert child.exit_status() is None, child.log_tail()
        assert not deadline.passed(), f"no port in {text!r}"
        sleep_s(0.01)
    return text.split("http://")[1].strip()
