"""A worker is lost in the middle of a step: that step is taken again, the others stay, and the books add up."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.books import check_books
from tests.cli import (
    command_of,
    end_of,
    marked,
    run_folder,
    simulated,
    skip_if_too_busy,
    started,
    steps_on_disk,
    wait_for,
    workers_of,
    write_plan,
)

LIMIT_S = 60.0
STOPPED_S = 12.0
pytestmark = pytest.mark.slow


def killed(worker: psutil.Process) -> None:
    worker.kill()


def stopped(worker: psutil.Process) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    os.kill(worker.pid, signal.SIGCONT)
    wait_for("the end of a worker that came back", lambda: not worker.is_running() or worker.status() == "zombie")


@pytest.mark.parametrize("mode", ["closed", "open"])
@pytest.mark.parametrize("lose", [killed, stopped])
def test_the_step_is_taken_again_by_those_that_are_left(
    lose: Callable[[psutil.Process], None], mode: str, tmp_path: Path
) -> None:
    load: dict[str, Any] = {"mode": mode, "steps": [3, 6], "warmup_s": 1, "hold_s": 6, "stop_early": False}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, workers=2)
    with started("run", plan, "--out", tmp_path / "out") as process:
        wait_for("the first step", lambda: steps_on_disk(tmp_path / "out") >= 1)
        time.sleep(2.0)  # in the second
        lose(workers_of(process.mark)[-1])  # type: ignore[attr-defined]
        ended = end_of(process)
    skip_if_too_busy(tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.left_running == []
    folder = run_folder(tmp_path / "out")
    (visit,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["visits"]
    assert visit["workers_wanted"] == 2
    first, second, again = visit["steps"]
    assert (first["workers"], first["workers_lost"]) == (["worker-0", "worker-1"], [])
    assert len(second["workers_lost"]) == 1
    assert (again["load"], again["role"], again["workers_lost"]) == (second["load"], "repeated", [])
    assert again["workers"] == [name for name in second["workers"] if name not in second["workers_lost"]]
    check_books(folder, open_loop=mode == "open")
    assert all(step["counters"]["ok"] > 0 for step in visit["steps"])
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    steps = summary["topologies"]["one"]["steps"]
    assert [step["verdict"] for step in steps] == ["valid", "valid"]


def test_a_matrixs_burst_is_taken_again_and_its_test_has_a_result(tmp_path: Path) -> None:
    tests = [
        {"id": "T1", "users": 4, "input_tokens": 50, "output_tokens": 300},
        {"id": "T2", "users": 2, "input_tokens": 50, "output_tokens": 300},
    ]
    matrix = {"tests": tests, "runs": 1, "baseline_requests": 1, "warmup_requests": 1, "cooldown_s": 0}
    load = {"steps": [2, 4]}  # the tests' users
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], matrix=matrix, load=load, workers=2)
    with started("run", plan, "--out", tmp_path / "out") as process:
        wait_for("warm-up and baseline", lambda: steps_on_disk(tmp_path / "out") >= 2)
        killed(workers_of(process.mark)[-1])  # type: ignore[attr-defined]
        ended = end_of(process)
    skip_if_too_busy(tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.left_running == []
    folder = run_folder(tmp_path / "out")
    (visit,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["visits"]
    taken = [(step["test"], step["role"], len(step["workers_lost"])) for step in visit["steps"][2:]]
    assert taken == [("T1", "planned", 1), ("T1", "repeated", 0), ("T2", "planned", 0)]
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["matrix"]["one"]["tests"]
    assert [(test["id"], test["verdict"], test["status"]) for test in told] == [
        ("T1", "valid", "success"),
        ("T2", "valid", "success"),
    ]
    assert [reason["id"] for reason in told[0]["reasons"]] == ["workers.lost"]


def spools(folder: Path) -> list[Path]:
    return list((folder / "log").glob("spool-*"))


def test_records_that_a_killed_masters_workers_had_made_are_kept(tmp_path: Path) -> None:
    """The step that broke off has no end, but its requests do."""
    load = {"steps": [3, 6], "warmup_s": 1, "hold_s": 60, "stop_early": False}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, workers=2)
    with started("run", plan, "--out", tmp_path / "out") as process:
        wait_for("its folder", lambda: list((tmp_path / "out").glob("*")))
        folder = run_folder(tmp_path / "out")
        wait_for("both workers' records", lambda: len(spools(folder)) == 2)
        (master,) = [one for one in marked(process.mark) if "--master" in command_of(one)]  # type: ignore[attr-defined]
        master.kill()
        ended = end_of(process)
    assert ended.code == 3, ended.err
    assert ended.left_running == []
    assert re.search(r"\d+ records that workers could not hand over were recovered", ended.out)
    assert spools(folder) == []
    rows = pq.read_table(folder / "samples").to_pandas()
    assert rows.request_id.is_unique
    assert set(rows.worker) == {"worker-0", "worker-1"}
    assert {"ok", "killed"} == set(rows.outcome)
    assert (rows.outcome == "killed").sum() == 3  # what its users had under way
