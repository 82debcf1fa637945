"""Soak and spike through the whole analysis: what summary.json has of them, and what it leaves out."""

import json
from dataclasses import replace
from typing import Any

from loadstair.analysis.summary import summary_json
from loadstair.plan.summary_shape import SOAK, SPIKE, Entries, Leaf, Shape
from loadstair.samples.runrecord import Ending
from tests.analysis.synthetic import TP4, SyntheticRun, failed, plan_of, simulate
from tests.analysis.test_soak import GIB, PER_HOUR, slower, steady, with_gauges
from tests.analysis.test_spike import calm, overloaded


def summary_of(run: SyntheticRun) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(summary_json(run.summary()), allow_nan=False))
    return values


def with_thresholds(run: SyntheticRun, *thresholds: str) -> SyntheticRun:
    return replace(run, plan=run.plan.model_copy(update={"thresholds": thresholds}))


def assert_has(shape: Shape, value: Any, at: str) -> None:
    """Every key of the value is in the shape, so that a threshold can name it."""
    if isinstance(shape, Leaf) or value is None:
        return
    if isinstance(shape, Entries):
        for entry in value:
            assert_has(shape.entry, entry, at)
        return
    assert isinstance(shape, dict), at
    assert value.keys() <= shape.keys(), at
    for key, inner in value.items():
        assert_has(shape[key], inner, f"{at}.{key}")


def test_a_soak_has_its_drifts_in_the_summary_and_thresholds_reach_them() -> None:
    run = with_thresholds(
        slower(steady(), 1.3),
        f"soak.tp4.ttft_ms.p50.drift_per_hour.high <= {0.1 * 100 * PER_HOUR}",
        "soak.tp4.error_rate.drift_per_hour <= 0.001",
    )
    summary = summary_of(run)
    assert summary["shape"] == "soak"
    assert summary["spike"] is None
    assert_has(SOAK, summary["soak"]["tp4"], "soak")
    assert [one["status"] for one in summary["thresholds"]] == ["failed", "met"]
    assert "soak.drift.ttft_ms.p50" in {finding["id"] for finding in summary["findings"]}
    assert summary["advice"].startswith("tp4 held 4 users for 2 min, but TTFT p50, ")


def test_a_soak_without_a_drift_says_so() -> None:
    run = with_gauges(steady(), gpu0__gpu_memory_used_bytes=(60 * GIB, 60 * GIB))
    summary = summary_of(run)
    assert "nothing that was followed is shown to get worse" in summary["advice"]
    assert_has(SOAK, summary["soak"]["tp4"], "soak")
    assert summary["soak"]["tp4"]["gpu_memory_bytes"]["hours_until_full"]["value"] is None


def test_a_spike_has_its_recovery_in_the_summary_and_thresholds_reach_it() -> None:
    run = with_thresholds(overloaded(calm()), "spike.tp4.recovery_s <= 5", "spike.tp4.recovery_s_at_least <= 10")
    summary = summary_of(run)
    assert (summary["shape"], summary["soak"]) == ("spike", None)
    assert_has(SPIKE, summary["spike"]["tp4"], "spike")
    assert [one["status"] for one in summary["thresholds"]] == ["failed", "met"]
    assert "holds it again 6." in summary["advice"] or "holds it again 5.9" in summary["advice"]


def test_the_usual_load_after_a_surge_is_not_pooled_with_that_before_it() -> None:
    steps = summary_of(overloaded(calm()))["topologies"]["tp4"]["steps"]
    assert [step["load"] for step in steps] == [4, 16]
    assert [len(step["visits"]) for step in steps] == [1, 1]
    assert steps[0]["ttft_ms"]["p99"]["value"] < 200  # none of the late ones


def test_what_a_surge_does_to_a_server_is_a_warning_and_does_not_make_its_step_invalid() -> None:
    run = calm().with_rows(lambda row: failed(row) if row.step == 1 and row.index % 4 == 0 else row).recounted()
    surge = summary_of(run)["topologies"]["tp4"]["steps"][1]
    assert surge["verdict"] == "valid"
    assert "requests.failed" in {finding["id"] for finding in surge["warnings"]}


def test_a_soak_that_drifts_is_valid() -> None:
    summary = summary_of(slower(steady(), 1.5))
    assert summary["soak"]["tp4"]["verdict"] == "valid"
    assert summary["topologies"]["tp4"]["steps"][0]["verdict"] == "valid"


def test_a_spike_has_no_capacity() -> None:
    summary = summary_of(calm())
    assert summary["topologies"]["tp4"]["capacity"]["saturation_load"] is None
    assert summary["comparisons"] == {}


def test_of_a_spike_that_was_taken_as_a_whole_again_the_broken_visit_enters_nothing() -> None:
    whole = calm()
    (visit,) = whole.run.visits
    broken = replace(visit, steps=visit.steps[:1], drained=False, server_after=None, broke_off=Ending.INTERRUPTED)
    again = replace(visit, visit=1, server_before=None)
    lost = [replace(row, request_id=f"lost-{row.request_id}") for row in whole.rows if row.step == 0]
    rows = (*lost, *(replace(row, visit=1) for row in whole.rows))
    resumed = replace(whole, run=replace(whole.run, visits=(broken, again)), rows=rows).recounted()
    now, before = (summary_of(run)["topologies"]["tp4"]["steps"] for run in (resumed, whole))
    assert [[one["visit"] for one in step["visits"]] for step in now] == [[1], [1]]
    assert [step["ttft_ms"]["p50"]["n"] for step in now] == [step["ttft_ms"]["p50"]["n"] for step in before]


def test_a_staircase_has_neither() -> None:
    servers = {"tp4": TP4}
    summary = summary_of(simulate(servers, plan_of(servers, load={"steps": [4, 16], "hold_s": 3})))
    assert (summary["shape"], summary["soak"], summary["spike"]) == ("staircase", None, None)
