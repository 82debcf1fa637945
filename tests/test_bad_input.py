"""Whatever is wrong: one line that says so, the exit code of its kind, nothing left running, nothing lost."""

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Ending
from tests.cli import (
    Ended,
    command_of,
    end_of,
    loadstair,
    marked,
    mounted_disk,
    one_line,
    run_folder,
    simulated,
    started,
    write_plan,
)

SAMPLE = Path(__file__).parents[1] / "reports" / "sample"
ODD_SERVER = str(Path(__file__).with_name("odd_server.py"))
ODD_WORKLOAD = {"model": "odd", "input_tokens": {"mean": 8, "cv": 0.2}, "output_tokens": {"mean": 6, "cv": 0.2}}
SHORT = {"steps": [1, 2], "warmup_s": 0.3, "hold_s": 1, "cooldown_s": 0, "tail_s_max": 5, "request_timeout_s": 5}


def odd(mode: str, good: int) -> dict[str, Any]:
    process = {
        "command": ["{python}", ODD_SERVER, "{port}", mode, str(good)],
        "ready_url": "http://127.0.0.1:{port}/health",
    }
    return {"name": "odd", "kind": "processes", "processes": [process], "ready_timeout_s": 20}


def run_odd(folder: Path, mode: str, good: int) -> Ended:
    plan = write_plan(folder / "plan.yaml", [odd(mode, good)], workload=ODD_WORKLOAD, load=SHORT)
    return loadstair("run", plan, "--out", folder / "out")


# --- the plan and the command line: 2


def test_a_missing_plan(tmp_path: Path) -> None:
    one_line(loadstair("run", tmp_path / "none.yaml"), 2, "none.yaml: no such file")


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: [1")
    one_line(loadstair("run", tmp_path / "p.yaml"), 2, "not YAML")


def test_an_unknown_key(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], worklod={})
    one_line(loadstair("check", plan), 2, "worklod: unknown key; did you mean workload?")


@pytest.mark.parametrize(("steps", "words"), [([], "at least 1 item"), ([4, 2], "steps must rise: 2 comes after 4")])
def test_steps_that_are_no_staircase(tmp_path: Path, steps: list[int], words: str) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], load={"steps": steps})
    one_line(loadstair("run", plan, "--out", tmp_path), 2, "load.steps", words)


def test_a_hold_shorter_than_a_request(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], load={"hold_s": 0.05})
    one_line(loadstair("run", plan, "--out", tmp_path), 2, "load.hold_s: 0.05 s is shorter than one expected request")


def test_two_mistakes_are_two_lines(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], seed=-1, load={"hold_s": -1})
    assert len(loadstair("run", plan).error_lines) == 2


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)])
    (tmp_path / "file").write_text("")
    one_line(loadstair("run", plan, "--out", tmp_path / "file"), 2, "a run folder cannot be made there")


# --- the topology: 3


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_is_taken(tmp_path: Path, taken_port: int) -> None:
    topology = odd("500", 1)
    topology["processes"][0] = {
        "command": ["{python}", ODD_SERVER, str(taken_port), "500", "1"],
        "ready_url": f"http://127.0.0.1:{taken_port}/health",
    }
    plan = write_plan(tmp_path / "p.yaml", [topology], workload=ODD_WORKLOAD, load=SHORT)
    one_line(loadstair("run", plan, "--out", tmp_path / "out"), 3, str(taken_port))


def test_an_engine_that_never_becomes_ready(tmp_path: Path) -> None:
    topology = odd("500", 1) | {"ready_timeout_s": 1}
    topology["processes"][0]["ready_url"] = "http://127.0.0.1:{port}/not-there"
    plan = write_plan(tmp_path / "p.yaml", [topology], workload=ODD_WORKLOAD, load=SHORT)
    one_line(loadstair("run", plan, "--out", tmp_path / "out"), 3, "odd")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("500", "500"),
        pytest.param("429", "429", marks=pytest.mark.slow),
        pytest.param("html", "text/html", marks=pytest.mark.slow),
        ("no-done", "[DONE]"),
    ],
)
def test_an_engine_that_answers_wrongly_from_the_start(tmp_path: Path, mode: str, words: str) -> None:
    one_line(run_odd(tmp_path, mode, good=0), 3, words)


def test_a_refused_endpoint(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    external = {"name": "gone", "kind": "external", "url": url}
    plan = write_plan(tmp_path / "p.yaml", [external], workload=ODD_WORKLOAD, load=SHORT)
    one_line(loadstair("run", plan, "--out", tmp_path / "out"), 3, url, "refused")


def test_a_wrong_model(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [odd("500", 99)], workload=ODD_WORKLOAD | {"model": "another"}, load=SHORT)
    one_line(loadstair("run", plan, "--out", tmp_path / "out"), 3, "another", "odd")


def test_an_engine_that_dies_mid_step_leaves_what_was_measured_and_the_end_of_its_log(tmp_path: Path) -> None:
    ended = run_odd(tmp_path, "exit", good=150)
    one_line(ended, 3, "odd", "exited with status 9")
    assert "CUDA error: an illegal memory access" in ended.err
    folder = RunFolder.open(run_folder(tmp_path / "out"))
    assert folder.read_run().ending is Ending.TOPOLOGY_FAILED
    assert len(folder.read_samples()[0]) >= 140


@pytest.mark.slow
@pytest.mark.parametrize("role", ["--worker", "--master"])
def test_a_load_generator_that_dies_mid_way(tmp_path: Path, role: str) -> None:
    load = {"steps": [2, 4], "warmup_s": 0.5, "hold_s": 3}
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], load=load)
    with started("run", plan, "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.readline()
        (victim,) = [other for other in marked(process.mark) if role in command_of(other)]  # type: ignore[attr-defined]
        victim.kill()
        ended = end_of(process)
    one_line(ended, 3, "Locust", "ended", "SIGKILL")
    summary = RunFolder.open(run_folder(tmp_path / "out")).read_json(run_folder(tmp_path / "out") / "summary.json")
    (first,) = summary["topologies"]["one"]["steps"]
    assert first["load"] == 2
    assert first["output_tokens_per_s"]["value"] > 0


# --- the measurement: 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("500", "http_error"),
        ("429", "http_error"),
        ("html", "malformed"),
        ("no-done", "truncated"),
        ("error-in-stream", "stream_error"),
        ("hang-up", "truncated"),
    ],
)
def test_an_engine_that_answers_wrongly_mid_way_is_measured_as_what_it_is(
    tmp_path: Path, mode: str, outcome: str
) -> None:
    ended = run_odd(tmp_path, mode, good=10)
    one_line(ended, 4, "the measurement is invalid: odd has no valid step")
    folder = RunFolder.open(run_folder(tmp_path / "out"))
    seen = folder.read_samples()[0].requests["outcome"].tolist()
    assert set(seen) == {"ok", outcome}
    assert seen.count("ok") == 10 - 1  # the first good answer went to the question before the load
    for step in folder.read_json(folder.summary_path)["topologies"]["odd"]["steps"]:
        assert step["verdict"] == "invalid"
        assert "requests.failed" in {reason["id"] for reason in step["reasons"]}


@pytest.mark.slow
def test_thresholds_decide_between_0_and_99(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path / "p.yaml",
        [simulated("one", 4)],
        thresholds=["topologies.one.capacity.output_tokens_per_s > 1e9"],
        load={"steps": [4], "hold_s": 2},
    )
    one_line(loadstair("run", plan, "--out", tmp_path / "out"), 99, "threshold failed: topologies.one.capacity")
    folder = RunFolder.open(run_folder(tmp_path / "out"))
    folder.plan_path.write_text(folder.plan_path.read_text().replace("1e9", "1"))
    assert loadstair("analyze", folder.path).code == 0


# --- interrupted: 130


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_keeps_and_reports_what_it_has(tmp_path: Path, number: signal.Signals) -> None:
    plan = write_plan(tmp_path / "p.yaml", [simulated("pair", 2, 2)], load={"steps": [2, 4, 8], "hold_s": 1.5})
    with started("run", plan, "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        first = process.stdout.readline()  # the line of the first finished step
        process.send_signal(number)
        ended = end_of(process)
    assert "2 users" in first
    one_line(ended, 130, f"interrupted by {number.name}")
    folder = RunFolder.open(run_folder(tmp_path / "out"))
    run = folder.read_run()
    assert run.ending is Ending.INTERRUPTED
    assert [step.step for step in run.visits[0].steps] == [0]
    assert folder.report_path.is_file()
    outcomes = folder.read_samples()[0].requests["outcome"].tolist()
    assert set(outcomes) <= {"ok", "killed"}


def test_an_interrupt_before_anything_was_measured_says_so(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "p.yaml", [odd("500", 1) | {"ready_timeout_s": 60}], workload=ODD_WORKLOAD, load=SHORT)
    raw = yaml.safe_load(plan.read_text())
    raw["topologies"][0]["processes"][0]["ready_url"] = "http://127.0.0.1:{port}/not-there"
    plan.write_text(yaml.safe_dump(raw))
    with started("run", plan, "--out", tmp_path / "out") as process:
        while not list((tmp_path / "out").glob("*/log/*.log")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        ended = end_of(process)
    one_line(ended, 130, "interrupted by SIGINT")
    assert "nothing was measured" in ended.err


@pytest.mark.slow
def test_a_second_interrupt_does_not_cost_the_report(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path / "p.yaml", [simulated("one", 4)], load={"steps": [2, 4], "warmup_s": 0.5, "hold_s": 1.5}
    )
    with started("run", plan, "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        run_json = run_folder(tmp_path / "out") / "run.json"
        while '"interrupted"' not in run_json.read_text():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)  # in the analysis
        process.send_signal(signal.SIGTERM)
        ended = end_of(process)
    one_line(ended, 130, "interrupted by SIGINT")
    assert (run_folder(tmp_path / "out") / "report.html").is_file()


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path / "p.yaml", [simulated("one", 4)], load={"steps": [2, 4], "warmup_s": 0.5, "hold_s": 1.5}
    )
    with started("run", plan, "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert (run_folder(tmp_path / "out") / "report.html").is_file()


def test_a_key_that_no_header_can_carry_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADSTAIR_TEST_KEY", "sk-hidden\r")
    external = {"name": "x", "kind": "external", "url": "http://127.0.0.1:9", "api_key_env": "LOADSTAIR_TEST_KEY"}
    plan = write_plan(tmp_path / "p.yaml", [external], workload=ODD_WORKLOAD, load=SHORT)
    ended = loadstair("run", plan, "--out", tmp_path / "out")
    one_line(ended, 3, "LOADSTAIR_TEST_KEY holds characters that no HTTP header can carry")
    assert "sk-hidden" not in ended.err + ended.out


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_running_and_its_steps_can_be_analysed(tmp_path: Path) -> None:
    load = {"steps": [2, 4, 8], "warmup_s": 0.5, "hold_s": 1.5}
    plan = write_plan(tmp_path / "p.yaml", [simulated("pair", 2, 2)], load=load)
    with started("run", plan, "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        process.kill()
        process.wait()
        while marked(process.mark):  # type: ignore[attr-defined]
            time.sleep(0.05)  # the kernel has told them; ending takes them a moment
    folder = run_folder(tmp_path / "out")
    ended = loadstair("analyze", folder)
    assert ended.code in (0, 4), ended.err  # a busy machine may have made its steps invalid
    steps = RunFolder.open(folder).read_json(folder / "summary.json")["topologies"]["pair"]["steps"]
    assert [step["load"] for step in steps] == [2, 4]


# --- the files of a run: 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("summary.json", "{}"),
        pytest.param("run.json", "[]", marks=pytest.mark.slow),
        pytest.param("plan.yaml", "name: [", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_run_folder(tmp_path: Path, damaged_copy: Path, name: str, content: str) -> None:
    (damaged_copy / name).write_text(content)
    one_line(loadstair("report", damaged_copy), 2, name)


@pytest.fixture
def damaged_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "copy"))


# --- the disk: 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "160k") as folder:
        yield folder


@pytest.mark.slow
def test_a_disk_that_fills_up_while_measuring(tmp_path: Path, small_disk: Path) -> None:
    load = {"steps": [4, 8, 16, 32], "warmup_s": 0.5, "hold_s": 1}
    plan = write_plan(tmp_path / "p.yaml", [simulated("one", 4)], load=load)
    one_line(loadstair("run", plan, "--out", small_disk), 3, "the disk is full")
