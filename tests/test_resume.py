"""A run that was killed goes on after its last finished step, and says no where it may not."""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadstair.plan.parse import plan_yaml, read_plan
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Ending
from tests.cli import Ended, loadstair, marked, run_folder, simulated, started, steps_on_disk, wait_for, write_plan
from tests.resuming import steps_by_visit
from tests.samples.test_run_folder import RUN

LIMIT_S = 120.0
USERS = [2, 4, 8]


@dataclass(frozen=True)
class Killed:
    folder: Path
    record: dict[str, Any]
    """run.json as the killed run left it."""
    samples: dict[str, bytes]
    telemetry: pa.Table


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """In the middle of its second step."""
    base = tmp_path_factory.mktemp("killed")
    plan = write_plan(
        base / "plan.yaml",
        [simulated("one", 4)],
        load={"steps": USERS, "warmup_s": 1, "hold_s": 2, "stop_early": False},
    )
    with started("run", plan, "--out", base / "out") as process:
        wait_for("a finished step", lambda: steps_on_disk(base / "out"))
        time.sleep(1.0)
        process.kill()
        process.wait()
        wait_for("the end of its children", lambda: not marked(process.mark))  # type: ignore[attr-defined]
    folder = run_folder(base / "out")
    (folder / "samples" / ".visit000-part009.parquet.partial").write_text("half a file")
    return Killed(
        folder=folder,
        record=read(folder, "run.json"),
        samples={path.name: path.read_bytes() for path in (folder / "samples").glob("*.parquet")},
        telemetry=pq.read_table(folder / "telemetry.parquet"),
    )


@pytest.fixture(scope="module")
def resumed(killed: Killed) -> Ended:
    return loadstair("run", "--resume", killed.folder)


@pytest.mark.slow
def test_a_killed_run_leaves_a_folder_that_is_read(killed: Killed) -> None:
    assert killed.record["ending"] == "running"
    assert 1 <= len(killed.record["visits"][0]["steps"]) < len(USERS)


@pytest.mark.slow
def test_a_resumed_run_ends_as_any_other(killed: Killed, resumed: Ended) -> None:
    assert resumed.code == 0, resumed.err
    assert resumed.left_running == []
    assert read(killed.folder, "summary.json")["ending"] == "complete"
    assert (killed.folder / "junit.xml").is_file()
    assert "another visit took the steps" in (killed.folder / "report.html").read_text()


@pytest.mark.slow
def test_what_was_measured_before_stays_as_it_is(killed: Killed, resumed: Ended) -> None:
    assert resumed.code == 0, resumed.err
    now = {path.name: path.read_bytes() for path in (killed.folder / "samples").iterdir()}
    assert killed.samples.items() < now.items()
    assert not any(name.endswith(".partial") for name in now)
    assert steps_by_visit(read(killed.folder, "run.json"))[0] == steps_by_visit(killed.record)[0]
    telemetry = pq.read_table(killed.folder / "telemetry.parquet")
    assert telemetry.num_rows > killed.telemetry.num_rows
    assert telemetry.slice(0, killed.telemetry.num_rows).equals(killed.telemetry)


@pytest.mark.slow
def test_every_step_of_the_plan_was_taken_once_and_a_visit_of_its_own_took_the_rest(
    killed: Killed, resumed: Ended
) -> None:
    assert resumed.code == 0, resumed.err
    record = read(killed.folder, "run.json")
    first, second = record["visits"]
    planned = [[step["load"] for step in visit["steps"] if step["role"] == "planned"] for visit in (first, second)]
    assert planned[0] + planned[1] == USERS
    assert first["visit"] == 0
    assert second["visit"] == 1  # the plan has one visit: number 0
    assert (first["repeat"], second["repeat"]) == (0, 0)
    assert (first["broke_off"], second["broke_off"]) == ("running", None)
    assert len(record["resumed"]) == 1
    summary = read(killed.folder, "summary.json")
    assert [step["load"] for step in summary["topologies"]["one"]["steps"]] == USERS
    assert "run.resumed" in [finding["id"] for finding in summary["findings"]]


@pytest.mark.slow
def test_the_books_of_the_second_visit_are_its_rows(killed: Killed, resumed: Ended) -> None:
    assert resumed.code == 0, resumed.err
    rows = pq.read_table(killed.folder / "samples").to_pandas()
    assert rows.request_id.is_unique
    visit = read(killed.folder, "run.json")["visits"][1]
    own = rows[rows.visit == visit["visit"]]
    assert visit["drained"]
    assert set(own.step) == {step["step"] for step in visit["steps"]}
    for step in visit["steps"]:
        count = int((own.step == step["step"]).sum())
        books = {name: step["counters"][name] for name in ("started", "ok", "failed", "killed")}
        assert books == {"started": count, "ok": count, "failed": 0, "killed": 0}
    before, after = visit["server_before"], visit["server_after"]
    assert after["requests_finished"] - before["requests_finished"] == len(own)


@pytest.mark.slow
def test_a_complete_run_is_not_resumed(killed: Killed, resumed: Ended) -> None:
    assert resumed.code == 0, resumed.err
    one_line(loadstair("run", "--resume", killed.folder), "the run is complete")


# --- refusals


@dataclass(frozen=True)
class Ready:
    """A run that was interrupted, and the plan's file."""

    plan: Path
    folder: RunFolder


@pytest.fixture
def ready(tmp_path: Path) -> Ready:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load={"repeats": 2})
    folder = RunFolder.create(tmp_path / "out", "small", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    folder.write_text(folder.plan_path, plan_yaml(read_plan(plan)))
    folder.write_run(replace(RUN, topologies={}, visits=(), ending=Ending.INTERRUPTED))
    return Ready(plan, folder)


def one_line(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended.err
    assert len(ended.error_lines) == 1, ended.err
    for word in words:
        assert word in ended.error_lines[0]
    assert "Traceback" not in ended.err


def refused(ready: Ready, *arguments: str | Path, because: str) -> None:
    before = {path: path.read_bytes() for path in ready.folder.path.rglob("*") if path.is_file()}
    one_line(loadstair("run", *arguments, "--resume", ready.folder.path), because)
    assert {path: path.read_bytes() for path in ready.folder.path.rglob("*") if path.is_file()} == before


def test_a_changed_plan_is_refused_with_what_differs(ready: Ready) -> None:
    refused(ready, ready.plan, "--set", "load.hold_s=5", because="load.hold_s is 5.0, was 3.0")


def test_a_plan_made_quick_is_another_plan(ready: Ready) -> None:
    refused(ready, ready.plan, "--quick", because="not the plan that")


def test_what_changes_a_plan_needs_one(ready: Ready) -> None:
    refused(ready, "--set", "load.hold_s=5", because="none is given")


def test_a_resumed_run_has_its_folder(ready: Ready, tmp_path: Path) -> None:
    refused(ready, "--out", tmp_path, because="--out: a resumed run goes on in its own folder")


def test_a_folder_that_is_still_written_is_refused(ready: Ready) -> None:
    with ready.folder.reserved():
        refused(ready, because="another process is still measuring into it")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    one_line(loadstair("run", "--resume", tmp_path), "not a run folder")


def test_neither_a_plan_nor_a_folder_is_refused() -> None:
    one_line(loadstair("run"), "give a PLAN")


def test_a_plan_that_names_files_beside_itself_needs_its_folder(ready: Ready) -> None:
    process = {"command": ["{plan_dir}/server", "{port}"], "ready_url": "http://127.0.0.1:{port}/health"}
    write_plan(ready.plan, [{"name": "one", "kind": "processes", "processes": [process]}])
    ready.folder.write_text(ready.folder.plan_path, plan_yaml(read_plan(ready.plan)))
    refused(ready, because="its folder is not noted; give PLAN too")
