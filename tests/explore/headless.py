"""Locust without a UI, as child processes, and what it printed and kept."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadstair.clock import Deadline, sleep_s
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from tests.explore.locust_ui import ROOT, free_port

CHAT = ROOT / "locustfiles" / "chat.py"
MODEL = "Qwen/Qwen2.5-32B-Instruct"
LIMIT_S = 90
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of ours, for mistakes of the command line."""
        return [line for line in self.err.splitlines() if line.startswith("loadstair: ")]

    @property
    def refusals(self) -> list[str]:
        return [line.split("the test does not start: ")[1] for line in self.err.splitlines() if "not start: " in line]

    @property
    def table(self) -> dict[str, list[str]]:
        """Rows of the closing table by label: n, mean, p50, p90, p99, max."""
        return {line.split()[0]: line.split()[1:] for line in self.err.splitlines() if line[:6].strip() in LABELS}

    @property
    def streams(self) -> tuple[int, int]:
        """Ok and failed, as the closing table says."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("Streams: ")]
        words = line.split()
        return int(words[1]), int(words[3])

    def stats(self) -> dict[str, Any]:
        """Locust's own, by name; printed by `--json`."""
        return {entry["name"]: entry for entry in json.loads(self.out)}


LABELS = {"TTFT", "ITL", "TPOT", "e2e"}


@contextmanager
def locust(folder: Path, *arguments: str, locustfile: Path = CHAT, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own; the whole group is gone at the end."""
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "OPENAI_"))}
    env |= {"PYTHONPATH": str(ROOT)} | variables
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=LIMIT_S)
    return Ended(process.returncode, out, err)


def headless(folder: Path, *arguments: str, locustfile: Path = CHAT, **variables: str) -> Ended:
    with locust(folder, "--headless", *arguments, locustfile=locustfile, **variables) as process:
        return ended(process)


def master_port() -> list[str]:
    port = str(free_port())
    return ["--master-bind-port", port, "--master-port", port]


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def until_it_has(path: Path, lines: int) -> None:
    """Waits until a file has so many lines."""
    deadline = Deadline.after_s(LIMIT_S)
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert not deadline.passed(), f"{path} did not get {lines} lines"
        sleep_s(0.1)


@dataclass(frozen=True)
class Engine:
    url: str
    ledger: Path
    process: subprocess.Popen[str]

    def entries(self, wanted: set[str]) -> dict[str, LedgerEntry]:
        """By request id, once the wanted ones are there: the engine writes its ledger about once a second."""
        deadline = Deadline.after_s(LIMIT_S)
        while True:
            entries = {entry.request_id: entry for entry in read_ledger(self.ledger)}
            if wanted <= entries.keys():
                return entries
            assert not deadline.passed(), f"{len(wanted - entries.keys())} requests never reached the engine"
            sleep_s(0.1)


@contextmanager
def engine(folder: Path, *arguments: str) -> Iterator[Engine]:
    ledger = folder / "ledger.jsonl"
    options = ["--model", MODEL, "--gpu", "h100-sxm", "--tp", "4", "--port", "0", "--ledger", str(ledger), *arguments]
    with subprocess.Popen(
        [sys.executable, "-m", "loadstair.simserver", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Engine(process.stdout.readline().split()[-1], ledger, process)
        finally:
            process.terminate()
            process.wait()


def interrupt(*processes: subprocess.Popen[str]) -> None:
    """As Ctrl-C does: every process of the group gets it."""
    for process in processes:
        os.killpg(process.pid, signal.SIGINT)


def nearest_rank(values: Sequence[float], quantile: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(quantile * 1000) * len(ordered) // 1000) - 1)]
