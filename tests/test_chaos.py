"""Each kind of process is killed at a random moment: nothing is left running, and the books add up."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.cli import Ended, command_of, end_of, loadstair, marked, simulated, started, wait_for, write_plan

LIMIT_S = 60.0
RUN_S = 9.0
"""About what a run takes from its workers' start: a later kill finds nobody."""
TRIES = 4
VICTIMS: dict[str, Callable[[psutil.Process], bool]] = {
    "worker": lambda process: "--worker" in command_of(process),
    "master": lambda process: "--master" in command_of(process),
    "engine": lambda process: "loadstair.simserver" in command_of(process),
    "nginx": lambda process: process.name() == "nginx",
}
CODES = {0, 3, 4}
"""0: it was killed too late, or others went on; 3: the run cannot go on; 4: no step is valid, as on a busy machine."""


def plan_in(folder: Path, mode: str) -> Path:
    load = {"mode": mode, "steps": [2, 4], "warmup_s": 0.5, "hold_s": 2, "cooldown_s": 0, "stop_early": False}
    return write_plan(folder / "plan.yaml", [simulated("two", 2, 2)], load=load, workers=2)


def kill_one(orchestrator: psutil.Process, victim: str, rng: random.Random) -> None:
    wait_for(
        "a worker",
        lambda: any(VICTIMS["worker"](child) for child in _alive(orchestrator)) or not orchestrator.is_running(),
    )
    time.sleep(rng.uniform(0, RUN_S))
    if victim == "orchestrator":
        orchestrator.kill()
        return
    found = [child for child in _alive(orchestrator) if VICTIMS[victim](child)]
    if found:
        rng.choice(found).kill()


def _alive(orchestrator: psutil.Process) -> list[psutil.Process]:
    try:
        children = orchestrator.children(recursive=True)
        return [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def check_books(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    parts = sorted((folder / "samples").glob("*.parquet"))
    rows = pq.read_table(folder / "samples").to_pandas() if parts else None
    assert rows is None or rows.request_id.is_unique
    for visit in run["visits"]:
        for step in visit["steps"]:
            assert rows is not None
            check_step(visit, step, rows[(rows.visit == visit["visit"]) & (rows.step == step["step"])])


def check_step(visit: dict[str, Any], step: dict[str, Any], rows: Any) -> None:
    books = step["counters"]
    ended = books["ok"] + books["failed"] + books["killed"] + books["lost"]
    failed = ~rows.outcome.isin(["ok", "killed"])
    counted = {"ok": (rows.outcome == "ok").sum(), "failed": failed.sum(), "killed": (rows.outcome == "killed").sum()}
    for name, count in counted.items():
        assert count == books[name] if visit["drained"] else count >= books[name], (name, books)
    assert books["started"] == ended if visit["drained"] else books["started"] >= ended
    if books["scheduled"]:
        assert books["scheduled"] >= books["started"]
        if visit["drained"]:
            assert books["scheduled"] == books["started"]
    assert rows["index"].is_unique


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(TRIES))
@pytest.mark.parametrize("victim", sorted(VICTIMS))
def test_a_killed_process_ends_the_run_in_order_or_is_done_without(victim: str, attempt: int, tmp_path: Path) -> None:
    rng = random.Random(f"{victim}/{attempt}")
    plan = plan_in(tmp_path, ("closed", "open")[attempt % 2])
    with started("run", plan, "--out", tmp_path / "out") as process:
        kill_one(psutil.Process(process.pid), victim, rng)
        ended = end_of(process)
    assert ended.code in CODES, ended.err
    assert ended.left_running == []
    assert "Traceback" not in ended.err
    (folder,) = (tmp_path / "out").iterdir()
    check_books(folder)
    if ended.code == 0:
        assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["ending"] == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(TRIES))
def test_without_its_orchestrator_the_load_ends_and_the_run_can_be_resumed(attempt: int, tmp_path: Path) -> None:
    rng = random.Random(f"orchestrator/{attempt}")
    plan = plan_in(tmp_path, ("closed", "open")[attempt % 2])
    with started("run", plan, "--out", tmp_path / "out") as process:
        kill_one(psutil.Process(process.pid), "orchestrator", rng)
        process.wait()
        wait_for("the end of its children", lambda: not marked(process.mark))  # type: ignore[attr-defined]
    (folder,) = (tmp_path / "out").iterdir()
    check_books(folder)
    if json.loads((folder / "run.json").read_text(encoding="utf-8"))["ending"] == "complete":
        return  # killed while it wrote the report
    again: Ended = loadstair("run", "--resume", folder)
    assert again.code in {0, 4}, again.err
    assert again.left_running == []
    check_books(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert [step["load"] for step in summary["topologies"]["two"]["steps"]] == [2, 4]
