"""A climb that is steered by what it measures goes on as if it had not been interrupted."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli import loadstair, simulated, write_plan
from tests.resuming import MODEL, SHORT, broken_off, check_resumed, check_told, read, records_in, steps_of


@pytest.mark.slow
def test_a_climb_that_had_stopped_and_refined_goes_on_where_it_was(tmp_path: Path) -> None:
    """Two sequences at a time, 30 requests a second: half of what 32 users ask times out, so that 40 is left out, and
    the SLO is lost between 4 and 32."""
    engine = {**simulated("one"), "engines": [{"tp": 4, "flags": {"max_num_seqs": 2}}]}
    load = {"steps": [2, 4, 32, 40], "refine": 2, "stop_early": True, "request_timeout_s": 0.5, **SHORT}
    lengths = {"input_tokens": {"mean": 64, "cv": 0.1}, "output_tokens": {"mean": 6, "cv": 0.1}}
    plan = write_plan(
        tmp_path / "plan.yaml", [engine], load=load, slo={"ttft_ms_p90": 200}, workload={"model": MODEL, **lengths}
    )
    out = tmp_path / "out"
    broken = broken_off(plan, out, after=lambda: any(map(added_steps, records_in(out))))
    assert broken.ended.code == 130, broken.ended.err
    first_added = added_steps(broken.record)
    assert len(first_added) == 1
    summary = check_resumed(broken, loadstair("run", "--resume", broken.folder))
    record = read(broken.folder, "run.json")
    added = added_steps(record)
    assert first_added == added[:1]
    assert 1 < len(added) == len(set(added))
    assert steps_of(record, "one", 0) == [2, 4, 32]
    assert {visit["stopped"] for visit in record["visits"]} == {"requests failed at load 32"}
    check_told(summary, "one", sorted([2, 4, 32, *added]))


def added_steps(record: dict[str, Any]) -> list[float]:
    return [load for role in ("refined", "bisected") for load in steps_of(record, "one", 0, role)]
