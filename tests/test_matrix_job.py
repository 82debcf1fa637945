"""A matrix plan, end to end: one command, real processes, compared with what the engine really did."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from loadstair.simserver.ledger import read_ledger
from tests.cli import Ended, loadstair, run_folder, simulated, write_plan

TESTS = [
    {"id": "small", "users": 2, "input_tokens": 50, "output_tokens": 8},
    {"id": "large", "users": 8, "input_tokens": 200, "output_tokens": 12},
]
Job = tuple[Ended, Path]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("matrix")
    plan = write_plan(
        folder / "plan.yaml",
        [simulated("one", 4)],
        matrix={"tests": TESTS, "runs": 2, "baseline_requests": 3, "warmup_requests": 1, "cooldown_s": 0},
        thresholds=["matrix.one.tests[id=large].requests == 16"],
    )
    ended = loadstair("run", plan, "--out", folder / "reports")
    return ended, run_folder(folder / "reports")


@pytest.mark.slow
def test_it_measures_every_test_and_answers(job: Job) -> None:
    ended, folder = job
    assert ended.code == 0, ended.err
    assert ended.left_running == []
    assert "Recommended concurrency:" in ended.out
    tests = json.loads((folder / "summary.json").read_text())["matrix"]["one"]["tests"]
    assert [(test["id"], test["requests"], test["answered"]) for test in tests] == [("small", 4, 4), ("large", 16, 16)]
    assert "Recommended concurrency" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_the_engine_saw_these_requests_with_these_lengths_and_no_others(job: Job) -> None:
    _, folder = job
    (path,) = (folder / "log").glob("*.ledger.jsonl")
    entries = [entry for entry in read_ledger(path) if not entry.request_id.startswith("preflight")]
    # Warm-up 1, a baseline of 3 and 2 × 2 requests of the small lengths; a baseline of 3 and 2 × 8 of the large ones.
    lengths = pd.Series([(entry.input_tokens, entry.output_tokens) for entry in entries])
    assert lengths.value_counts().to_dict() == {(50, 8): 8, (200, 12): 19}
    rows: pd.DataFrame = pq.read_table(folder / "samples").to_pandas()
    assert set(rows.request_id) == {entry.request_id for entry in entries}


@pytest.mark.slow
def test_the_other_files_speak_of_the_tests(job: Job) -> None:
    _, folder = job
    assert [record["test_id"] for record in json.loads((folder / "results.json").read_text())] == ["small", "large"]
    assert [case.get("name") for case in ET.parse(folder / "junit.xml").iter("testcase")][:2] == ["small", "large"]
