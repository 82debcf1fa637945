"""The main job against a real engine: llama.cpp's own server, through the same staircase."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli import Ended, loadstair, run_folder

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PLAN = Path(__file__).parents[1] / "plans" / "real-llamacpp.yaml"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    out = tmp_path_factory.mktemp("real") / "reports"
    ended = loadstair("run", PLAN, "--out", out)
    return ended, run_folder(out)


def summary_of(job: tuple[Ended, Path]) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((job[1] / "summary.json").read_text())
    return summary


def test_it_measures_both_topologies_and_leaves_nothing_running(job: tuple[Ended, Path]) -> None:
    ended, _ = job
    assert ended.code == 0, ended.out + ended.err
    assert ended.left_running == []


def test_every_request_was_answered_with_the_tokens_asked_for(job: tuple[Ended, Path]) -> None:
    rows = pq.read_table(job[1] / "samples").to_pandas()
    assert set(rows.outcome) == {"ok"}
    assert (rows.output_tokens == rows.output_tokens_asked).all()
    assert set(rows.clock) == {"kernel"}


def test_the_servers_own_books_agree(job: tuple[Ended, Path]) -> None:
    rows = pq.read_table(job[1] / "samples").to_pandas()
    for visit in json.loads((job[1] / "run.json").read_text())["visits"]:
        sent = rows[rows.visit == visit["visit"]].output_tokens.sum()
        assert visit["server_after"]["output_tokens"] - visit["server_before"]["output_tokens"] == sent


def test_prompts_are_corrected_towards_the_wanted_length_by_what_the_server_counts(job: tuple[Ended, Path]) -> None:
    rows = pq.read_table(job[1] / "samples").to_pandas()
    off = (rows.input_tokens / rows.input_tokens_asked - 1).abs()
    first, later = off[rows.step == 0], off[rows.step == 2]
    assert later.median() <= first.median()
    assert later.median() < 0.5  # a chat template's own tokens weigh much beside 32


def test_eight_slots_answer_four_users_sooner_than_one(job: tuple[Ended, Path]) -> None:
    topologies = summary_of(job)["topologies"]
    ttft = {name: topologies[name]["steps"][-1]["ttft_ms"]["p50"]["value"] for name in ("slots1", "slots8")}
    assert ttft["slots8"] < ttft["slots1"]
