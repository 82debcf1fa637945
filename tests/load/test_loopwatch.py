import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).with_name("loop_probe.py")


@pytest.fixture(scope="module")
def blind_ns() -> dict[str, Any]:
    done = subprocess.run([sys.executable, PROBE], capture_output=True, text=True, check=True, timeout=60)
    return dict(json.loads(done.stdout))


def test_a_loop_that_waits_is_not_blind(blind_ns: dict[str, Any]) -> None:
    assert min(blind_ns["waiting"]) < blind_ns["busy_ns"]


def test_a_loop_is_blind_for_as_long_as_a_greenlet_keeps_it(blind_ns: dict[str, Any]) -> None:
    assert min(blind_ns["busy"]) >= blind_ns["busy_ns"]


def test_callbacks_that_run_right_before_the_look_count_as_blind_time(blind_ns: dict[str, Any]) -> None:
    assert min(blind_ns["callback"]) >= 2 * blind_ns["busy_ns"]


def test_an_arrival_may_have_waited_for_as_long_as_the_loop_was_blind_however_new_its_stamp(
    blind_ns: dict[str, Any],
) -> None:
    assert blind_ns["waited_us"] >= blind_ns["busy_ns"] // 1000
