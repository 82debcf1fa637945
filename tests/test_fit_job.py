"""`loadstair fit`, end to end, and what forecasts and sizings make of its file."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadstair.report.fit_terminal import FIGURES, fit_text
from tests.cli import loadstair, one_line, run_folder, simulated, write_plan

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "reports" / "sample"
DOCUMENT = ROOT / "docs" / "model.md"
SIZE = "--model Qwen/Qwen2.5-32B-Instruct --concurrent 16 --context 2560 --gpu h100-nvl"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(read(path) | changes), encoding="utf-8")


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forecast of engines at 0.8 of their speed, passed off as measured; the plan keeps that to itself."""
    folder = tmp_path_factory.mktemp("slow")
    slow = simulated("one", 4) | {"engines": [{"tp": 4, "flags": {"speed": 0.8}}]}
    plan = write_plan(folder / "plan.yaml", [slow], load={"steps": [1, 8, 64], "hold_s": 20})
    ended = loadstair("forecast", plan, "--out", folder / "out")
    assert ended.code == 0, ended.err
    run = run_folder(folder / "out")
    change(run / "run.json", predicted=False)
    change(run / "summary.json", predicted=False)
    kept = (run / "plan.yaml").read_text(encoding="utf-8")
    (run / "plan.yaml").write_text(kept.replace("speed: 0.8", "speed: 1.0"), encoding="utf-8")
    return run


def test_the_sample_run_of_simulated_engines_needs_no_other_constants() -> None:
    ended = loadstair("fit", SAMPLE, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert {one["name"] for one in told["factors"]} == {"bandwidth", "peak", "fixed_time", "all_reduce_time"}
    for one in told["factors"]:
        assert one["value"] == pytest.approx(1, abs=0.05)
        assert one["low"] <= 1 <= one["high"]
    assert told["verdict"] == "holds"
    assert len(told["steps"]) == 12
    assert told["error_before"] < 0.02


def test_the_document_shows_what_the_command_prints() -> None:
    ended = loadstair("fit", SAMPLE)
    printed = re.sub(r" +$", "", ended.out, flags=re.MULTILINE)
    assert printed in DOCUMENT.read_text(encoding="utf-8")


def test_no_figure_is_cut_off_at_80_columns() -> None:
    estimate = {"measured": 8765.4, "before": 8765.4, "after": 8765.4}
    step = {"topology": "tp2x2", "load": 1024.0, "error_before": 0.123, "error_after": 0.101}
    step |= dict.fromkeys(FIGURES, estimate)
    factor = {"name": "all_reduce_time", "words": "time of all-reduces", "are_times": True, "held": False}
    factor |= {"value": 1.01, "low": 0.89, "high": 1.14}
    values = {"run": "small", "started": "2026-11-20T10:00:00+00:00", "model": "m", "gpus": ["h100-nvl"]}
    values |= {"mode": "closed", "steps": [step], "factors": [factor], "notes": [], "words": "Fitted."}
    console = Console(file=io.StringIO(), width=80)
    console.print(fit_text(values))
    assert "…" not in console.file.getvalue()


def test_slower_engines_are_found_and_a_forecast_with_the_file_is_nearer(slow_run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "fitted.json"
    ended = loadstair("fit", slow_run, "--out", kept)
    assert ended.code == 0, ended.err
    assert "The engines are slower than the model: 0.8" in ended.out
    assert f"constants: {kept}" in ended.out
    told = loadstair("forecast", slow_run / "plan.yaml", "--out", tmp_path / "out", "--efficiencies", kept)
    assert told.code == 0, told.err
    folder = run_folder(tmp_path / "out")
    for measured, predicted in zip(rates(slow_run), rates(folder), strict=True):
        assert predicted == pytest.approx(measured, rel=0.03)
    (first, *_) = read(folder / "run.json")["notes"]
    assert first.startswith("the constants of the step times are fitted to small of ")
    assert first in [finding["message"] for finding in read(folder / "summary.json")["findings"]]


def rates(run: Path) -> list[float]:
    steps = read(run / "summary.json")["topologies"]["one"]["steps"]
    return [step["output_tokens_per_s"]["value"] for step in steps]


def test_a_sizing_takes_the_file_and_says_so(slow_run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "fitted.json"
    assert loadstair("fit", slow_run, "--out", kept, "--json").code == 0
    shipped, fitted = (
        json.loads(loadstair("size", *SIZE.split(), "--json", *options).out)
        for options in ((), ("--efficiencies", kept))
    )
    speeds = [
        {one["topology"]: one["speed"]["output_tokens_per_s"]["value"] for one in sizing["candidates"]}
        for sizing in (shipped, fitted)
    ]
    assert speeds[1]["1 × TP4"] < 0.9 * speeds[0]["1 × TP4"]
    assert shipped["case"]["efficiencies_from"] is None
    assert fitted["case"]["efficiencies_from"].startswith("fitted to small of ")
    assert "Step times are fitted to small of " in loadstair("size", *SIZE.split(), "--efficiencies", kept).out


def test_the_runs_own_forecast_keeps_the_shipped_constants(slow_run: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in slow_run.iterdir() if path.is_file()}
    assert loadstair("fit", slow_run, "--out", tmp_path / "fitted.json").code == 0
    assert {path.name: path.read_bytes() for path in slow_run.iterdir() if path.is_file()} == before


def test_what_cannot_be_fitted_is_refused_in_one_line(slow_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(slow_run, run)
    one_line(loadstair("fit", tmp_path), 2, "not a run folder")
    one_line(loadstair("fit", run, "--out", tmp_path / "no" / "fitted.json"), 2, "--out", "there is no folder")
    summary = read(run / "summary.json")
    steps = summary["topologies"]["one"]["steps"]
    for step in steps[1:]:
        step["verdict"] = "invalid"
    change(run / "summary.json", topologies=summary["topologies"])
    one_line(loadstair("fit", run), 4, "only one load (1) has valid steps")
    steps[0]["verdict"] = "invalid"
    change(run / "summary.json", topologies=summary["topologies"])
    one_line(loadstair("fit", run), 4, "no step is valid")
    change(run / "summary.json", topologies={"one": {}})
    one_line(loadstair("fit", run), 2, "damaged", "`analyze` makes it again")
    (run / "summary.json").unlink()
    one_line(loadstair("fit", run), 2, "`analyze` makes it")
    change(run / "run.json", predicted=True)
    one_line(loadstair("fit", run), 2, "a forecast")


@pytest.mark.slow
def test_engines_that_are_served_at_0_8_of_their_speed_are_found_slower(tmp_path: Path) -> None:
    slow = simulated("one", 4) | {"engines": [{"tp": 4, "flags": {"speed": 0.8}}]}
    plan = write_plan(tmp_path / "plan.yaml", [slow], load={"steps": [2, 8], "warmup_s": 2, "hold_s": 8})
    ended = loadstair("run", plan, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    told = loadstair("fit", run_folder(tmp_path / "out"), "--json")
    assert told.code == 0, told.err
    values = json.loads(told.out)
    assert values["words"].startswith("The engines are slower than the model: 0.8")
    assert any("speed (0.8) is for the fit to find" in note for note in values["notes"])
