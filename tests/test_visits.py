"""Repeats, kept engines and several workers, through the whole main job."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loadstair.simserver.ledger import read_ledger
from tests.cli import loadstair, run_folder, simulated, write_plan

pytestmark = pytest.mark.slow


def test_an_engine_that_is_never_restarted_serves_every_visit(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path / "plan.yaml",
        [simulated("kept", 4) | {"restart": "never"}, simulated("fresh", 2)],
        workers=2,
        load={"steps": [4], "warmup_s": 0.5, "hold_s": 1.5, "repeats": 2},
    )
    ended = loadstair("run", plan, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.left_running == []
    folder = run_folder(tmp_path / "out")
    rows = pq.read_table(folder / "samples").to_pandas()

    visits = json.loads((folder / "run.json").read_text())["visits"]
    assert [visit["topology"] for visit in visits] == ["kept", "fresh", "fresh", "kept"]

    ledgers = sorted(path.name for path in (folder / "log").glob("*.ledger.jsonl"))
    assert ledgers == [f"{visit}-engine0.ledger.jsonl" for visit in ("0-kept", "1-fresh", "2-fresh")]
    served = {entry.request_id for entry in read_ledger(folder / "log" / ledgers[0])}
    assert set(rows[rows.topology == "kept"].request_id) <= served

    assert set(rows.worker) == {"worker-0", "worker-1"}
    assert rows.groupby("visit").request_id.count().min() > 0


def test_both_topologies_are_asked_the_same_requests_in_the_same_step_of_the_same_repeat(tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path / "plan.yaml",
        [simulated("a", 4), simulated("b", 2)],
        load={"steps": [3], "warmup_s": 0.5, "hold_s": 1.5},
    )
    assert loadstair("run", plan, "--out", tmp_path / "out").code == 0
    rows = pq.read_table(run_folder(tmp_path / "out") / "samples").to_pandas()
    rows = rows[rows["step"] == 0]  # a busy machine may make it invalid: it is then taken once more, as another step
    asked = {
        name: group.set_index("index")[["input_tokens_asked", "output_tokens_asked"]]
        for name, group in rows.groupby("topology")
    }
    common = asked["a"].index.intersection(asked["b"].index)
    assert len(common) > 10
    assert asked["a"].loc[common].equals(asked["b"].loc[common])
