"""Orchestrators of their own process, ended by real signals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.topology.conftest import has_ended, wait_until_ended
from tests.topology.plans import processes

ORCHESTRATOR = """
import json, os, signal, sys, time
from pathlib import Path
from loadstair.errors import Interrupted
from loadstair.topology.bring_up import bring_up
from tests.topology.conftest import has_ended, wait_until_ended
from tests.topology.plans import plan_of

def interrupt(number, frame):
    raise Interrupted(signal.Signals(number).name)

signal.signal(signal.SIGTERM, interrupt)
signal.signal(signal.SIGINT, interrupt)
plan = plan_of(json.loads(sys.argv[1]))
print("starting", flush=True)
try:
    with bring_up(plan.topologies[0], plan=plan, plan_dir=Path("."), log_dir=Path(sys.argv[2]), visit=1):
        print("up", flush=True)
        time.sleep(600)
except Interrupted as error:
    print("interrupted", error, flush=True)
"""


def orchestrator(topology: dict[str, object], log_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, json.dumps(topology), str(log_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    return next(line for line in process.stdout if line.startswith(word)).strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_engines_and_nginx_and_is_what_is_reported(number: signal.Signals, tmp_path: Path) -> None:
    with orchestrator(processes("good", "good"), tmp_path) as process:
        read_until(process, "up")
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 4  # two engines, nginx's master and at least one worker
        process.send_signal(number)
        assert read_until(process, "interrupted") == f"interrupted {number.name}"
        process.wait()
    assert all(has_ended(child) for child in below)


def test_a_signal_during_the_start_stops_what_was_started(tmp_path: Path) -> None:
    with orchestrator(processes("never_ready", "never_ready", ready_timeout_s=500), tmp_path) as process:
        read_until(process, "starting")
        below: list[psutil.Process] = []
        while len(below) < 2:
            below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert read_until(process, "interrupted") == "interrupted SIGTERM"
        process.wait()
    assert all(has_ended(child) for child in below)


def test_nothing_outlives_a_killed_orchestrator(tmp_path: Path) -> None:
    with orchestrator(processes("good", "good"), tmp_path) as process:
        read_until(process, "up")
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
    wait_until_ended(below)
