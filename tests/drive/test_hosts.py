"""A run whose workers are on other hosts: network namespaces, each with an address of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import loadstair
from tests.books import check_books
from tests.cli import skip_if_too_busy, steps_on_disk, wait_for
from tests.drive.namespaces import MASTER, Host, hosts

ROOT = Path(loadstair.__file__).parents[1]
MODEL = "Qwen/Qwen2.5-3B-Instruct"
PORT = 15557
LIMIT_S = 90.0
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def two_hosts() -> Iterator[list[Host]]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(hosts(2))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield made


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = ENV | {"XDG_STATE_HOME": str(log.parent / "state")}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=log.parent)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def engine(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "loadstair", "simserver", "--host", MASTER, "--port", "0", "--model", MODEL]
    with subprocess.Popen([*command, "--gpu", "h100-sxm"], stdout=subprocess.PIPE, text=True, env=ENV) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split(":")[-1].strip().rstrip("/")
            yield f"http://{MASTER}:{port}"
        finally:
            process.kill()


def write_plan(folder: Path, url: str, *, expect: int, repeats: int = 1, wait_s: float = 120.0) -> Path:
    plan = {
        "name": "hosts",
        "workload": {"model": MODEL, "input_tokens": {"mean": 32, "cv": 0.2}, "output_tokens": {"mean": 16, "cv": 0.2}},
        "load": {
            "steps": [2, 4],
            "warmup_s": 0.5,
            "warmup_s_max": 0.5,
            "hold_s": 2,
            "cooldown_s": 0.5,
            "repeats": repeats,
            "stop_early": False,
        },
        "workers": {"expect": expect, "bind": MASTER, "port": PORT, "wait_s": wait_s},
        "topologies": [{"name": "one", "kind": "external", "url": url}],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def run(plan: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loadstair", "run", str(plan), "--out", str(plan.parent / "out")]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=300, check=False)


def worker(host: Host) -> list[str]:
    return host.command(sys.executable, "-m", "loadstair", "worker", f"{MASTER}:{PORT}", "--processes", "1")


@pytest.mark.slow
def test_workers_on_two_hosts_share_every_visit_and_the_books_add_up(two_hosts: list[Host], tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(engine(tmp_path))
        logs = [tmp_path / f"{host.namespace}.log" for host in two_hosts]
        for host, log in zip(two_hosts, logs, strict=True):
            stack.enter_context(started(worker(host), log))
        done = run(write_plan(tmp_path, url, expect=2, repeats=2))
    assert done.returncode in (0, 4), done.stdout + done.stderr  # a busy machine may make a step invalid
    (folder,) = (tmp_path / "out").iterdir()
    record = json.loads((folder / "run.json").read_text())
    rows = pq.read_table(folder / "samples").to_pylist()
    assert len(record["visits"]) == 2
    for visit in record["visits"]:
        for step in visit["steps"]:
            mine = [row for row in rows if (row["visit"], row["step"]) == (visit["visit"], step["step"])]
            counters = step["counters"]
            assert counters["started"] == counters["ok"] == len(mine) > 0
            clocks = step["clocks"]
            assert sorted(one["worker"] for one in clocks) == ["worker-0", "worker-0", "worker-1", "worker-1"]
            # The namespaces share one clock: its true offset, 0, lies within what is said.
            assert all(abs(one["offset_ns"]) <= one["uncertainty_ns"] for one in clocks)
            assert {row["worker"] for row in mine} == {"worker-0", "worker-1"} == set(step["workers"])
    assert len({row["request_id"] for row in rows}) == len(rows)
    told = pq.read_table(folder / "telemetry.parquet").to_pandas()
    told = told[told.series == "generator.cpu_percent"]
    assert set(told.source) == {"generator/master", "generator/worker-0", "generator/worker-1"}
    assert (told.value >= 0).all()
    summary = json.loads((folder / "summary.json").read_text())
    for step in summary["topologies"]["one"]["steps"]:
        assert step["telemetry"]["generator_cpu_percent"] > 0
    for host, log in zip(two_hosts, logs, strict=True):
        assert f"({host.address}, pid " in done.stdout  # said by the orchestrator
        said = log.read_text()
        assert "visit 0, one" in said
        assert "visit 1, one" in said  # it came back by itself


@pytest.mark.slow
def test_at_the_deadline_it_is_told_who_came_and_how_many_are_missing(two_hosts: list[Host], tmp_path: Path) -> None:
    with engine(tmp_path) as url, started(worker(two_hosts[0]), tmp_path / "worker.log"):
        done = run(write_plan(tmp_path, url, expect=2, wait_s=8.0))
    assert done.returncode == 3
    assert "workers: 1 of 2 missing after 8 s (came: " in done.stderr
    assert f"({two_hosts[0].address}, pid " in done.stderr
    assert f"scripts/run_worker.sh {MASTER}:{PORT}" in done.stderr


@pytest.mark.slow
def test_the_step_in_which_a_host_is_cut_off_is_taken_again_by_the_one_that_is_left(
    two_hosts: list[Host], tmp_path: Path
) -> None:
    """What the other had recorded meanwhile is on its disk, and can be added."""
    with ExitStack() as stack:
        url = stack.enter_context(engine(tmp_path))
        logs = [tmp_path / f"{host.namespace}.log" for host in two_hosts]
        for host, log in zip(two_hosts, logs, strict=True):
            stack.enter_context(started(worker(host), log))
        plan = write_plan(tmp_path, url, expect=2)
        raw = yaml.safe_load(plan.read_text(encoding="utf-8"))
        raw["load"] |= {"hold_s": 6, "mode": "open", "steps": [4, 8]}
        plan.write_text(yaml.safe_dump(raw), encoding="utf-8")
        command = [sys.executable, "-m", "loadstair", "run", str(plan), "--out", str(tmp_path / "out")]
        run_log = tmp_path / "run.log"
        with started(command, run_log) as process:
            wait_for("the first step", lambda: steps_on_disk(tmp_path / "out") >= 1)
            time.sleep(2.0)  # in the second step
            two_hosts[1].cut_off()
            try:
                code = process.wait(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                pytest.fail(run_log.read_text(encoding="utf-8"))
            finally:
                two_hosts[1].join()
        wait_for("the cut-off worker's end", lambda: "are kept in" in logs[1].read_text(encoding="utf-8"))
    assert code in (0, 4), run_log.read_text(encoding="utf-8")
    skip_if_too_busy(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    (visit,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["visits"]
    first, second, again = visit["steps"][:3]
    assert (len(first["workers"]), first["workers_lost"]) == (2, [])
    assert len(second["workers_lost"]) == 1
    assert (again["role"], again["load"], again["workers_lost"]) == ("repeated", second["load"], [])
    assert set(again["workers"]) == set(second["workers"]) - set(second["workers_lost"])
    check_books(folder, open_loop=True)
    rows = pq.read_table(folder / "samples").to_pandas()
    own = rows[rows.step == again["step"]]
    assert sorted(own["index"]) == list(range(len(own)))

    match = re.search(r"(\d+) records are kept in (\S+);", logs[1].read_text(encoding="utf-8"))
    assert match is not None
    command = [sys.executable, "-m", "loadstair", "recover", str(folder), match[2]]
    recovered = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=60, check=False)
    assert recovered.returncode == 0, recovered.stderr
    check_books(folder, open_loop=True)
    (visit,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["visits"]
    assert visit["steps"][1]["counters"]["started"] > second["counters"]["started"]  # of which the master never heard
    assert not Path(match[2]).exists()
