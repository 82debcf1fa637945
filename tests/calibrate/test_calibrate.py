"""`loadstair calibrate` as a user runs it."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from loadstair.calibrate.ground import available
from loadstair.calibrate.staircase import effort
from loadstair.calibrate.store import Store
from loadstair.samples.calibration import GroundTruth
from tests.calibrate.values import calibration
from tests.cli import Ended, end_of, loadstair, run_folder, simulated, started, write_plan

TRIES = 3


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder for Loadstair."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "loadstair"


def kept(state: Path) -> Any:
    return json.loads((state / "calibration.json").read_text())


def test_its_forecast_is_two_minutes_at_most_and_quick_forty_seconds() -> None:
    assert effort(quick=False, users=None).expected_s <= 120
    assert effort(quick=True, users=None).expected_s <= 40


@pytest.mark.parametrize("users", [("64", "16"), ("0",), ("16", "16"), ("16", "5000")])
def test_levels_that_do_not_rise_are_refused_in_one_line(state: Path, users: tuple[str, ...]) -> None:
    ended = loadstair("calibrate", "--users", *users)
    assert ended.code == 2
    assert ended.error_lines == [
        f"error: --users {' '.join(users)}: levels must rise and lie between 1 and 4096, such as 16 64 256"
    ]
    assert not state.exists()


def test_a_state_folder_that_cannot_be_written_is_told_at_once(state: Path) -> None:
    state.parent.write_text("a file")
    ended = loadstair("calibrate", "--quick")
    assert ended.code == 2
    (line,) = ended.error_lines
    assert "a calibration cannot be kept there" in line
    assert "XDG_STATE_HOME" in line


def test_a_compiler_that_fails_is_told_in_one_line(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'error: no headers' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ended = loadstair("calibrate")
    assert ended.code == 3
    (line,) = ended.error_lines
    assert "could not compile it: error: no headers" in line
    assert not (state / "calibration.json").exists()


def calibrated(*options: str) -> Ended:
    """On a machine that is busy no level may hold, which is said: then once more, and once more. Where none ever does,
    there is no calibration to look at."""
    for _ in range(TRIES):
        ended = loadstair("calibrate", *options)
        if "no level held" not in ended.err:
            assert ended.code == 0, ended.out + ended.err
            return ended
        assert ended.code == 3
        assert len(ended.error_lines) == 1
    pytest.skip(f"this machine is too busy to calibrate: {ended.error_lines[0]}")


@pytest.mark.slow
def test_what_it_finds_is_kept_and_told_in_the_report_of_the_next_run(state: Path, tmp_path: Path) -> None:
    ended = calibrated("--quick", "--users", "8")
    assert ended.left_running == []
    assert "ceiling of one worker" in ended.out
    assert (state / "calibration.html").read_text().startswith("<!doctype html>")
    values = kept(state)
    assert values["ground_truth"] == ("simulated" if shutil.which("cc") is None else "native")
    assert max(level["users"] for level in values["levels"]) == 8
    best = max(level["chunks_per_s"] for level in values["levels"] if level["held"])
    assert values["chunks_per_s"] == best

    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load={"steps": [16], "hold_s": 2})
    assert loadstair("run", plan, "--out", tmp_path / "out").code in (0, 4)  # 4: this machine was too busy
    folder = run_folder(tmp_path / "out")
    assert json.loads((folder / "run.json").read_text())["calibration"]["chunks_per_s"] == best
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["generator"]["ceiling_chunks_per_s_per_worker"] == best
    (step,) = summary["topologies"]["one"]["steps"]
    assert "generator.ceiling.chunks" in [finding["id"] for finding in step["warnings"]]  # 16 users, 10 ms a token
    assert "The load generator&#39;s ceiling: one worker process carried" in (folder / "report.html").read_text()

    (state / "calibration.json").write_text(json.dumps(values | {"machine": values["machine"] | {"cpu": "another"}}))
    loadstair("run", plan, "--out", tmp_path / "out2")
    run = json.loads((run_folder(tmp_path / "out2") / "run.json").read_text())
    assert run["calibration"] is None
    (warning,) = [line for line in run["warnings"] if "calibration" in line]
    assert "it was made with another cpu (another, now " in warning


@pytest.mark.slow
def test_interrupted_it_keeps_what_was_kept_before(state: Path) -> None:
    store = Store(state)
    with store.reserved():
        store.write(calibration(), "the page before")
    with started("calibrate") as process:
        assert process.stdout is not None
        assert "16 users" in process.stdout.readline()  # the first level is over
        process.send_signal(signal.SIGTERM)
        ended = end_of(process)
    assert ended.code == 130
    assert ended.error_lines == ["error: interrupted by SIGTERM"]
    assert ended.left_running == []
    assert store.read() == calibration()
    assert store.page_path.read_text() == "the page before"


def test_without_a_c_compiler_the_ground_truth_is_the_simulated_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert available() is GroundTruth.SIMULATED


@pytest.mark.slow
def test_without_a_c_compiler_the_simulated_engine_is_the_truth_and_it_says_so(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("cc") is None
    ended = calibrated("--quick", "--users", "8", "--json")
    values = json.loads(ended.out)
    assert values == kept(state)
    assert values["ground_truth"] == "simulated"
    assert "the simulated engine, which sent up to" in values["lower_bound"]
