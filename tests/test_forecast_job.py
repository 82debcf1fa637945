"""`loadstair forecast`, end to end: the run folder of a measured run, and nobody takes it for one."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli import Ended, loadstair, run_folder, simulated, write_plan

LONGER = {"steps": [2, 8, 64], "hold_s": 10}
OPEN_LOOP = {"mode": "open", "steps": [2, 8], "hold_s": 10}
EXTERNAL = {"name": "there", "kind": "external", "url": "http://127.0.0.1:1"}


def forecast(folder: Path, plan: Path, *options: str) -> tuple[Ended, Path]:
    ended = loadstair("forecast", plan, "--out", folder / "out", *options)
    assert ended.code == 0, ended.err
    return ended, run_folder(folder / "out")


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def findings(folder: Path) -> list[str]:
    return [finding["message"] for finding in read(folder, "summary.json")["findings"]]


def steps_of(folder: Path, topology: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = read(folder, "summary.json")["topologies"][topology]["steps"]
    return steps


def test_a_forecast_has_the_folder_of_a_run_and_says_everywhere_that_it_is_none(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), simulated("two", 2, 2)], load=LONGER)
    ended, folder = forecast(tmp_path, plan)
    assert read(folder, "run.json")["predicted"] is True
    summary = read(folder, "summary.json")
    assert summary["predicted"] is True
    assert summary["advice"].startswith("Predicted, not measured: ")
    assert ended.out.startswith("small (predicted)")
    assert "Predicted, not measured: " in ended.out
    suites = ET.parse(folder / "junit.xml").getroot()
    assert suites.get("name") == "small (predicted)"
    assert {one.get("value") for one in suites.iter("property") if one.get("name") == "predicted"} == {"true"}
    assert all(record["test_id"].endswith("-predicted") for record in read(folder, "results.json"))
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "<title>small (predicted)" in report
    assert "predicted: nothing was measured" in report
    assert set(pq.read_table(folder / "samples")["clock"].to_pylist()) == {"simulated"}


def test_a_forecast_is_judged_as_a_run_and_nothing_in_it_speaks_of_the_load_generator(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), simulated("two", 2, 2)], load=LONGER)
    _, folder = forecast(tmp_path, plan)
    summary = read(folder, "summary.json")
    steps = [step for topology in summary["topologies"].values() for step in topology["steps"]]
    assert {step["verdict"] for step in steps} == {"valid"}
    told = {finding["id"] for step in steps for finding in step["warnings"]}
    assert not {name for name in told if name.startswith(("generator", "clock", "counts"))}
    assert {finding["id"] for finding in summary["findings"]} == {"forecast.predicted", "forecast.note"}
    assert "two_vs_one" in summary["comparisons"]


def test_the_same_plan_is_foretold_alike_each_time(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("two", 2, 2)])
    values = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        _, folder = forecast(tmp_path / name, plan)
        values.append(
            [step["output_tokens_per_s"] for step in read(folder, "summary.json")["topologies"]["two"]["steps"]]
        )
    assert values[0] == values[1]


def test_an_open_loop_is_foretold_by_its_arrivals(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=OPEN_LOOP)
    _, folder = forecast(tmp_path, plan)
    rates = [step["requests_per_s"]["value"] for step in steps_of(folder, "one")]
    assert rates == pytest.approx([2, 8], rel=0.4)  # three standard deviations of 20 Poisson arrivals are more


@pytest.mark.parametrize(
    ("load", "part"),
    [({"shape": "soak", "steps": [4], "hold_s": 60}, "soak"), ({"shape": "spike", "steps": [2, 16]}, "spike")],
)
def test_a_soak_and_a_spike_are_foretold_too(tmp_path: Path, load: dict[str, Any], part: str) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, slo={"ttft_ms_p99": 500})
    _, folder = forecast(tmp_path, plan)
    assert read(folder, "summary.json")[part]["one"]["verdict"] == "valid"


def test_extra_steps_are_placed_as_in_a_run(tmp_path: Path) -> None:
    load = {"steps": [4, 256], "hold_s": 4, "refine": 1}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load, slo={"ttft_ms_p50": 50})
    _, folder = forecast(tmp_path, plan)
    roles = {step["load"]: step["visits"][0]["role"] for step in steps_of(folder, "one")}
    assert list(roles.values()).count("bisected") == 1


def test_topologies_that_are_not_known_are_left_out_and_named(tmp_path: Path) -> None:
    thresholds = ["topologies.there.capacity.output_tokens_per_s > 1"]
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4), EXTERNAL], thresholds=thresholds)
    _, folder = forecast(tmp_path, plan)
    assert list(read(folder, "summary.json")["topologies"]) == ["one"]
    assert "there is left out of the forecast: it has no gpus: type and count are needed" in findings(folder)


def test_a_real_server_is_foretold_from_its_gpus_and_engines_and_unknown_flags_are_named(tmp_path: Path) -> None:
    engines = [{"tp": 4, "flags": {"max_num_seqs": 4, "enforce_eager": True}}]
    there = EXTERNAL | {"gpus": {"type": "h100-sxm", "count": 4}, "engines": engines}
    plan = write_plan(tmp_path / "plan.yaml", [there], load={"steps": [4, 16]})
    _, folder = forecast(tmp_path, plan)
    assert "there: the forecast ignores enforce_eager: its model of an engine has no such flag" in findings(folder)
    running = [
        step["telemetry"]["requests_running"] for step in read(folder, "summary.json")["topologies"]["there"]["steps"]
    ]
    assert max(running) <= 4


def test_what_cannot_be_foretold_is_refused_in_one_line_for_each_topology(tmp_path: Path) -> None:
    nowhere = EXTERNAL | {"gpus": {"type": "abacus", "count": 1}, "engines": [{"tp": 1}]}
    plan = write_plan(tmp_path / "plan.yaml", [EXTERNAL | {"name": "bare"}, nowhere])
    ended = loadstair("forecast", plan, "--out", tmp_path / "out")
    assert ended.code == 2
    bare, other = ended.error_lines
    assert bare == "error: forecast: bare cannot be forecast: it has no gpus: type and count are needed"
    assert other.startswith("error: forecast: there cannot be forecast: GPU abacus is not in the catalogue; known: ")
    assert not (tmp_path / "out").exists()


def test_a_matrix_is_refused_in_one_line(tmp_path: Path) -> None:
    plan = Path(__file__).parents[1] / "plans" / "vllm-matrix.yaml"
    ended = loadstair("forecast", plan, "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.error_lines == ["error: forecast: a matrix plan cannot be forecast: give load.steps in its place"]


def test_pools_for_prefill_and_decode_are_foretold_and_not_served(tmp_path: Path) -> None:
    topology = simulated("p1d1", 2, 2) | {
        "engines": [
            {"tp": 2, "flags": {"kv_role": "kv_producer", "kv_transfer_gb_per_s": 50}},
            {"tp": 2, "flags": {"kv_role": "kv_consumer"}},
        ]
    }
    del topology["balancer"]
    plan = write_plan(tmp_path / "plan.yaml", [simulated("both", 2, 2), topology])
    ended, folder = forecast(tmp_path, plan)
    assert ended.code == 0, ended.err
    assert [step["verdict"] for step in steps_of(folder, "p1d1")] == ["valid", "valid"]
    served = loadstair("run", plan, "--out", tmp_path / "served")
    assert served.code == 2
    (line,) = served.error_lines
    assert line.startswith("error: topology p1d1: prefill and decode on engines of their own can be forecast")
    assert not (tmp_path / "served").exists()


@pytest.mark.slow
def test_the_forecast_and_the_served_engines_agree(tmp_path: Path) -> None:
    """Bounds that a shared machine allows; `bench/forecast.py` measures how far they really agree."""
    load = {"steps": [2, 8], "warmup_s": 2, "hold_s": 8}
    plan = write_plan(tmp_path / "plan.yaml", [simulated("one", 4)], load=load)
    ended = loadstair("run", plan, "--out", tmp_path / "served")
    assert ended.code == 0, ended.err
    summary = read(run_folder(tmp_path / "served"), "summary.json")
    for step in summary["topologies"]["one"]["steps"]:
        assert step["predicted"]["output_tokens_per_s"] == pytest.approx(step["output_tokens_per_s"]["value"], rel=0.1)
        assert step["predicted"]["ttft_ms_p50"] == pytest.approx(step["ttft_ms"]["p50"]["value"], rel=0.3)


def test_a_forecast_that_ended_early_is_not_gone_on_with_as_a_measurement(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [simulated("two", 2, 2)])
    _, folder = forecast(tmp_path, plan)
    run = read(folder, "run.json")
    (folder / "run.json").write_text(json.dumps(run | {"ending": "interrupted"}), encoding="utf-8")
    ended = loadstair("run", "--resume", folder)
    assert ended.code == 2
    assert "a forecast, not a measured run; `loadstair forecast` makes it again" in ended.err
