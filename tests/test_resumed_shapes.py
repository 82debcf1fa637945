"""A run of any shape that ended early, whatever ended it, goes on: nothing is lost, nothing is there twice."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import end_of, loadstair, mounted_disk, one_line, read_only, simulated, started, wait_for, write_plan
from tests.resuming import (
    MODEL,
    SHORT,
    answered,
    broken_off,
    check_resumed,
    check_told,
    left_behind,
    read,
    samples_in,
    some_steps,
    steps_of,
)

pytestmark = pytest.mark.slow


def test_a_spike_that_was_interrupted_in_its_surge_is_taken_as_a_whole_again(tmp_path: Path) -> None:
    load = {"shape": "spike", "steps": [2, 8], "warmup_s": 0.5, "hold_s": 2, "surge_s": 2, "recovery_s": 3}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, slo={"ttft_ms_p90": 500})
    out = tmp_path / "out"
    broken = broken_off(plan, out, after=some_steps(out, 1))
    assert broken.ended.code == 130, broken.ended.err
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    first, second = read(broken.folder, "run.json")["visits"]
    assert [len(first["steps"]), len(second["steps"])] == [1, 3]
    assert [visit["visit"] for visit in summary["spike"]["one"]["visits"]] == [second["visit"]]
    check_told(summary, "one", [2, 8])
    used = {visit["visit"] for step in summary["topologies"]["one"]["steps"] for visit in step["visits"]}
    assert used == {second["visit"]}


def test_a_matrix_that_was_killed_goes_on_after_its_last_finished_burst(tmp_path: Path) -> None:
    tests = [
        {"id": "small", "users": 2, "input_tokens": 50, "output_tokens": 60},
        {"id": "large", "users": 4, "input_tokens": 50, "output_tokens": 60},
    ]
    matrix = {"tests": tests, "runs": 3, "baseline_requests": 2, "warmup_requests": 1, "cooldown_s": 0}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], matrix=matrix, load={"steps": [2, 4]})
    out = tmp_path / "out"
    broken = broken_off(plan, out, signal.SIGKILL, after=some_steps(out, 3))
    assert broken.ended.code == -signal.SIGKILL
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    record = read(broken.folder, "run.json")
    taken = Counter(step["test"] for visit in record["visits"] for step in visit["steps"])
    assert taken == {"warmup": 2, "baseline/small": 1, "small": 3, "large": 3}
    answers = summary["matrix"]["one"]["tests"]
    assert [(test["id"], test["runs"], test["requests"]) for test in answers] == [("small", 3, 6), ("large", 3, 12)]
    assert all(test["verdict"] == "valid" or test["reasons"] for test in answers)


def test_a_soak_that_was_interrupted_is_taken_again(tmp_path: Path) -> None:
    load = {"shape": "soak", "steps": [4], "warmup_s": 0.5, "hold_s": 4}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load)
    out = tmp_path / "out"
    broken = broken_off(plan, out, after=lambda: answered(out) > 8)
    assert broken.ended.code == 130, broken.ended.err
    assert broken.samples  # what there was of the step is kept, and enters nothing
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    assert steps_of(read(broken.folder, "run.json"), "one", 0) == [4]
    assert summary["soak"]["one"]["visit"] == 1
    check_told(summary, "one", [4])


def test_a_staircase_of_two_topologies_that_was_interrupted_ends_with_every_step_of_every_repeat(
    tmp_path: Path,
) -> None:
    load = {"steps": [2, 4], "repeats": 2, "stop_early": False, **SHORT}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), simulated("two", 2, 2)], load=load)
    out = tmp_path / "out"
    broken = broken_off(plan, out, after=some_steps(out, 1))
    assert broken.ended.code == 130, broken.ended.err
    assert len(broken.record["visits"][0]["steps"]) == 1
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    record = read(broken.folder, "run.json")
    for topology in ("one", "two"):
        assert [steps_of(record, topology, repeat) for repeat in (0, 1)] == [[2, 4], [2, 4]]
        check_told(summary, topology, [2, 4])
    order = [(visit["topology"], visit["repeat"]) for visit in record["visits"]]
    assert order == [("one", 0), ("one", 0), ("two", 0), ("two", 1), ("one", 1)]


def test_a_topology_that_changed_meanwhile_is_refused_and_the_right_one_goes_on(tmp_path: Path) -> None:
    engine, out = tmp_path / "engine.sh", tmp_path / "out"
    options = f"--model {MODEL} --served-model-name odd --gpu h100-nvl --tp 4 --ledger {tmp_path}/0.ledger.jsonl"
    right = f'exec {sys.executable} -m loadstair.simserver --port "$1" {options}\n'
    engine.write_text(right)
    process = {"command": ["sh", "{plan_dir}/engine.sh", "{port}"], "ready_url": "http://127.0.0.1:{port}/health"}
    workload = {"model": "odd", "input_tokens": {"mean": 64}, "output_tokens": {"mean": 12}}
    topology = {"name": "one", "kind": "processes", "processes": [process]}
    load = {"steps": [2, 4], "stop_early": False, **SHORT}
    plan = write_plan(tmp_path / "plan.yaml", [topology], workload=workload, load=load)
    broken = broken_off(plan, out, after=some_steps(out, 1))
    assert broken.ended.code == 130, broken.ended.err

    engine.write_text(f'exec {sys.executable} {Path(__file__).with_name("odd_server.py")} "$1" 500 1000\n')
    one_line(loadstair("run", "--resume", broken.folder), 2, "topology one: not what", "seen.server is ")
    assert samples_in(broken.folder) == broken.samples

    engine.write_text(right)
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    assert steps_of(read(broken.folder, "run.json"), "one", 0) == [2, 4]
    check_told(summary, "one", [2, 4])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "16m") as folder:
        yield folder


def test_a_run_whose_disk_was_full_goes_on_when_there_is_room(tmp_path: Path, disk: Path) -> None:
    load = {"steps": [2, 4], "stop_early": False, **SHORT}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load)
    out = disk / "out"
    with started("run", plan, "--out", out) as process:
        wait_for("a finished step", some_steps(out, 1))
        fill(disk / "filler")
        ended = end_of(process)
    one_line(ended, 3, "the disk is full")
    broken = left_behind(out, ended)
    one_line(loadstair("run", "--resume", broken.folder), 3, "the disk is full")
    (disk / "filler").unlink()
    (broken.folder / "samples" / ".visit000-part009.parquet.partial").write_text("half a file")
    with read_only(disk):
        one_line(loadstair("run", "--resume", broken.folder), 3, "Read-only file system")
    check_told(check_resumed(broken, loadstair("run", "--resume", broken.folder)), "one", [2, 4])


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
