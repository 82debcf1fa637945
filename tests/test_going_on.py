"""Plans that have a run go on after a loss: with new workers in place of lost ones, without a topology that failed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from loadstair.topology.ports import free_ports
from tests.books import check_books
from tests.cli import (
    Ended,
    command_of,
    end_of,
    loadstair,
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

MODEL = "Qwen/Qwen2.5-32B-Instruct"
pytestmark = pytest.mark.slow


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def engines_of(mark: str) -> list[psutil.Process]:
    return [process for process in marked(mark) if "loadstair.simserver" in command_of(process)]


def served(out: Path) -> int:
    """Requests that the engines have answered, as their ledgers say about once a second."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/log/*.ledger.jsonl"))


def kill_a_worker(mark: str, out: Path, *, steps_before: int, others: set[int]) -> set[int]:
    """In the middle of the step after those. `others`: earlier workers that may still be there; returns the new ones
    as well."""

    def pair() -> list[psutil.Process]:
        return [worker for worker in workers_of(mark) if worker.pid not in others]

    wait_for("the steps before", lambda: steps_on_disk(out) == steps_before)
    wait_for("two workers", lambda: len(pair()) == 2)
    served_before = served(out)
    wait_for("the load", lambda: served(out) >= served_before + 10)
    time.sleep(1.0)
    victims = pair()
    victims[-1].kill()
    return others | {worker.pid for worker in victims}


def with_a_worker_killed(plan: Path, out: Path, *, steps_before: int) -> Ended:
    with started("run", plan, "--out", out) as process:
        kill_a_worker(process.mark, out, steps_before=steps_before, others=set())  # type: ignore[attr-defined]
        return end_of(process)


@pytest.mark.parametrize("mode", ["closed", "open"])
def test_the_step_is_taken_again_by_all_and_so_are_those_after_it(mode: str, tmp_path: Path) -> None:
    load = {"mode": mode, "steps": [3, 6, 9], "warmup_s": 0.5, "hold_s": 4, "stop_early": False}
    load |= {"on_worker_lost": "replace"}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, workers=2)
    ended = with_a_worker_killed(plan, tmp_path / "out", steps_before=1)
    skip_if_too_busy(tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.left_running == []
    assert "lost: all workers begin anew (replacement 1 of at most 3)" in ended.out
    folder = run_folder(tmp_path / "out")
    check_books(folder, open_loop=mode == "open")
    broken, rest = read(folder, "run.json")["visits"]
    assert (broken["visit"], rest["visit"]) == (0, 1)
    assert (broken["repeat"], rest["repeat"]) == (0, 0)
    assert (broken["finished"], broken["drained"], broken["broke_off"]) == (False, True, "load_failed")
    assert (rest["finished"], rest["drained"], rest["broke_off"]) == (True, True, None)
    first, lost = broken["steps"]
    again, last = rest["steps"][:2]
    assert (first["workers_lost"], len(lost["workers_lost"])) == ([], 1)
    assert (again["load"], again["role"], last["load"], last["role"]) == (6, "repeated", 9, "planned")
    for step in rest["steps"]:
        assert (step["workers"], step["workers_lost"]) == (["worker-0", "worker-1"], [])
    assert len(list((folder / "log").glob("*-engine0.log"))) == 1  # the engine stood through all of it
    summary = read(folder, "summary.json")
    steps = summary["topologies"]["one"]["steps"]
    assert [(step["load"], step["verdict"]) for step in steps] == [(3, "valid"), (6, "valid"), (9, "valid")]
    assert any("try of repeat 0 is left out" in warning["message"] for warning in steps[1]["warnings"])


def test_a_soak_is_held_again(tmp_path: Path) -> None:
    load = {"shape": "soak", "steps": [4], "warmup_s": 0.5, "hold_s": 5, "on_worker_lost": "replace"}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, workers=2)
    ended = with_a_worker_killed(plan, tmp_path / "out", steps_before=0)
    skip_if_too_busy(tmp_path / "out")
    assert ended.code == 0, ended.err
    folder = run_folder(tmp_path / "out")
    check_books(folder)
    visits = read(folder, "run.json")["visits"]
    assert [(visit["visit"], len(visit["steps"])) for visit in visits] == [(0, 1), (1, 1)]
    assert [len(visit["steps"][0]["workers_lost"]) for visit in visits] == [1, 0]
    soak = read(folder, "summary.json")["soak"]["one"]
    assert (soak["verdict"], soak["visit"]) == ("valid", 1)


def test_a_spike_is_taken_as_a_whole_again(tmp_path: Path) -> None:
    load = {"shape": "spike", "steps": [2, 6], "warmup_s": 1, "hold_s": 3, "surge_s": 6, "recovery_s": 3}
    plan = write_plan(
        tmp_path / "plan.yaml",
        [simulated("one", 4)],
        load=load | {"on_worker_lost": "replace"},
        workers=2,
        slo={"ttft_ms_p90": 2000},
    )
    ended = with_a_worker_killed(plan, tmp_path / "out", steps_before=1)
    assert ended.code in {0, 4}, ended.err  # a busy machine may make its short holds invalid
    folder = run_folder(tmp_path / "out")
    check_books(folder)
    broken, whole = read(folder, "run.json")["visits"]
    assert [len(step["workers_lost"]) for step in broken["steps"]] == [0, 1]
    assert [(step["load"], step["workers_lost"]) for step in whole["steps"]] == [(2, []), (6, []), (2, [])]
    assert [visit["visit"] for visit in read(folder, "summary.json")["spike"]["one"]["visits"]] == [1]


@contextmanager
def engine() -> Iterator[str]:
    """An address where remote workers reach it."""
    command = [
        sys.executable,
        "-m",
        "loadstair",
        "simserver",
        "--port",
        "0",
        "--gpu",
        "h100-sxm",
        "--tp",
        "4",
        "--model",
        MODEL,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1].rstrip("/")
        finally:
            process.kill()


def remote_plan(folder: Path, url: str, port: int, wait_s: float) -> Path:
    return write_plan(
        folder / "plan.yaml",
        [{"name": "one", "kind": "external", "url": url}],
        load={"steps": [4, 6], "warmup_s": 0.5, "hold_s": 5, "stop_early": False, "on_worker_lost": "replace"},
        workers={"expect": 2, "bind": "127.0.0.1", "port": port, "wait_s": wait_s},
    )


def test_remote_workers_are_waited_for_until_as_many_as_expected_are_here(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    out = tmp_path / "out"
    worker = ("worker", f"127.0.0.1:{port}", "--processes", "1")
    with engine() as url, started(*worker), started(*worker) as hit:
        plan = remote_plan(tmp_path, url, port, wait_s=60)
        with started("run", plan, "--out", out) as process:
            wait_for("the first step", lambda: steps_on_disk(out) == 1)
            time.sleep(2.5)  # in the second
            workers_of(hit.mark)[0].kill()  # type: ignore[attr-defined]
            ended = end_of(process)
    skip_if_too_busy(tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.out.count("waiting up to 60 s for 2 remote workers") == 2
    folder = run_folder(out)
    check_books(folder)
    broken, rest = read(folder, "run.json")["visits"]
    assert [len(step["workers_lost"]) for step in broken["steps"]] == [0, 1]
    again = rest["steps"][0]
    assert (again["load"], again["role"], again["workers_lost"]) == (6, "repeated", [])
    assert sorted(again["workers"]) == ["worker-0", "worker-1"]
    assert measured(folder, "one") == [(4, "valid"), (6, "valid")]


def test_a_run_whose_remote_workers_stay_away_ends_and_is_resumed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    out = tmp_path / "out"
    worker = ("worker", f"127.0.0.1:{port}", "--processes", "1")
    with engine() as url, started(*worker):
        plan = remote_plan(tmp_path, url, port, wait_s=8)
        with started("run", plan, "--out", out) as process, started(*worker) as gone:
            wait_for("the first step", lambda: steps_on_disk(out) == 1)
            time.sleep(2.5)  # in the second
            gone.kill()
            wait_for("the end of its workers", lambda: not workers_of(gone.mark))  # type: ignore[attr-defined]
            ended = end_of(process)
        assert ended.code == 3
        assert "workers: 1 of 2 missing after 8 s" in ended.error_lines[0]
        folder = run_folder(out)
        assert read(folder, "run.json")["ending"] == "load_failed"
        with started(*worker):
            again = loadstair("run", "--resume", folder)
    skip_if_too_busy(tmp_path / "out")
    assert again.code == 0, again.err
    visits = read(folder, "run.json")["visits"]
    assert [visit["visit"] for visit in visits] == [0, 4]  # 1 to 3 were for the first run's replacements
    assert measured(folder, "one") == [(4, "valid"), (6, "valid")]


def test_workers_that_are_lost_again_and_again_end_the_run_which_can_be_resumed(tmp_path: Path) -> None:
    load = {"steps": [4, 6], "warmup_s": 0.5, "hold_s": 4, "stop_early": False, "on_worker_lost": "replace"}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, workers=2)
    out = tmp_path / "out"
    seen: set[int] = set()
    with started("run", plan, "--out", out) as process:
        for tries in range(4):
            seen = kill_a_worker(process.mark, out, steps_before=tries, others=seen)  # type: ignore[attr-defined]
        ended = end_of(process)
    assert ended.code == 3
    assert ended.left_running == []
    assert len(ended.error_lines) == 1
    assert "topology one: workers were lost 4 times in one visit (worker-" in ended.error_lines[0]
    folder = run_folder(out)
    check_books(folder)
    record = read(folder, "run.json")
    assert (record["ending"], [visit["visit"] for visit in record["visits"]]) == ("load_failed", [0, 1, 2, 3])
    again = loadstair("run", "--resume", folder)
    skip_if_too_busy(tmp_path / "out")
    assert again.code == 0, again.err
    check_books(folder)
    record = read(folder, "run.json")
    assert [visit["visit"] for visit in record["visits"]] == [0, 1, 2, 3, 4]
    steps = read(folder, "summary.json")["topologies"]["one"]["steps"]
    assert [(step["load"], step["verdict"]) for step in steps] == [(4, "valid"), (6, "valid")]


def with_the_first_engine_killed(plan: Path, out: Path) -> Ended:
    """In the middle of its second step."""
    with started("run", plan, "--out", out) as process:
        wait_for("the first step", lambda: steps_on_disk(out) >= 1)
        time.sleep(1.0)
        (engine,) = engines_of(process.mark)  # type: ignore[attr-defined]
        engine.kill()
        return end_of(process)


def test_a_topology_that_dies_is_named_at_the_end_tried_again_and_completed_by_a_resumption(tmp_path: Path) -> None:
    load = {
        "steps": [2, 4],
        "warmup_s": 0.5,
        "hold_s": 2.5,
        "repeats": 2,
        "stop_early": False,
        "on_server_lost": "next",
    }
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), simulated("two", 2)], load=load, workers=1)
    ended = with_the_first_engine_killed(plan, tmp_path / "out")
    assert ended.code == 3
    assert ended.left_running == []
    assert len(ended.error_lines) == 1
    assert "one failed, the run went on with the rest: topology one: engine0 died" in ended.error_lines[0]
    assert ended.out.count("; the run goes on") == 1
    folder = run_folder(tmp_path / "out")
    record = read(folder, "run.json")
    assert record["ending"] == "topology_failed"
    told = [(visit["topology"], visit["repeat"], visit["finished"], visit["broke_off"]) for visit in record["visits"]]
    assert told == [
        ("one", 0, False, "topology_failed"), ("two", 0, True, None),
        ("two", 1, True, None), ("one", 1, True, None),
    ]  # fmt: skip
    assert record["visits"][0]["broke_off_message"].startswith("topology one: engine0 died")
    skip_if_too_busy(tmp_path / "out")
    assert measured(folder, "two") == [(2, "valid"), (4, "valid")]
    again = loadstair("run", "--resume", folder)
    skip_if_too_busy(tmp_path / "out")
    assert again.code == 0, again.err
    record = read(folder, "run.json")
    assert record["ending"] == "complete"
    assert [(visit["visit"], visit["topology"], visit["repeat"]) for visit in record["visits"]][4:] == [(4, "one", 0)]
    assert measured(folder, "one") == [(2, "valid"), (4, "valid")]


def test_a_matrix_goes_on_with_the_other_topology_and_the_test_it_died_in_has_failed(tmp_path: Path) -> None:
    tests = [
        {"id": "small", "users": 2, "input_tokens": 50, "output_tokens": 8},
        {"id": "long", "users": 4, "input_tokens": 50, "output_tokens": 400},
    ]
    matrix = {"tests": tests, "runs": 1, "baseline_requests": 1, "warmup_requests": 1, "cooldown_s": 0}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), simulated("two", 2)], matrix=matrix, workers=1)
    raw = yaml.safe_load(plan.read_text(encoding="utf-8"))
    raw["load"] = {"cooldown_s": 0, "on_server_lost": "next"}
    del raw["workload"]["input_tokens"], raw["workload"]["output_tokens"]
    plan.write_text(yaml.safe_dump(raw), encoding="utf-8")
    out = tmp_path / "out"
    with started("run", plan, "--out", out) as process:
        wait_for("all bursts but the last", lambda: steps_on_disk(out) == 4)
        time.sleep(1.0)
        (engine,) = engines_of(process.mark)  # type: ignore[attr-defined]
        engine.kill()
        ended = end_of(process)
    assert ended.code == 3
    assert "one failed, the run went on with the rest: topology one: engine0 died" in ended.error_lines[0]
    told = read(run_folder(out), "summary.json")["matrix"]
    failed = {name: [test["status"] == "failure" for test in told[name]["tests"]] for name in ("one", "two")}
    assert failed == {"one": [False, True], "two": [False, False]}
    assert "the server died: topology one: engine0 died" in told["one"]["tests"][1]["errors"][0]["message"]


def measured(folder: Path, topology: str) -> list[tuple[float, str]]:
    steps = read(folder, "summary.json")["topologies"][topology]["steps"]
    return [(step["load"], step["verdict"]) for step in steps]


def test_a_topology_that_never_comes_up_is_tried_once(tmp_path: Path) -> None:
    missing = {"command": ["/no/such/server", "{port}"], "ready_url": "http://127.0.0.1:{port}/health"}
    load = {"steps": [4], "warmup_s": 0.5, "hold_s": 2, "repeats": 2, "on_server_lost": "next"}
    topologies = [simulated("here", 4), {"name": "gone", "kind": "processes", "processes": [missing]}]
    plan = write_plan(tmp_path / "plan.yaml", topologies, load=load, workers=1)
    ended = loadstair("run", plan, "--out", tmp_path / "out")
    assert ended.code == 3
    assert ended.out.count("; the run goes on") == 1
    assert "gone: not visited again" in ended.out
    assert "gone failed, the run went on with the rest: topology gone: engine0: cannot start" in ended.error_lines[0]
    visits = read(run_folder(tmp_path / "out"), "run.json")["visits"]
    assert [(visit["topology"], visit["repeat"], visit["finished"]) for visit in visits] == [
        ("here", 0, True), ("here", 1, True),
    ]  # fmt: skip
