import json
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.results import results_json
from loadstair.analysis.summary import summary_json
from loadstair.samples.runrecord import Ending, StepRole
from tests.analysis.synthetic import TP2X2, TP4, SyntheticRun, plan_of, simulate, two_topologies

RUN = two_topologies(
    load={"steps": [4, 16, 64]},
    slo={"ttft_ms_p99": 150, "e2e_s_max": 10},
    thresholds=["comparisons.tp2x2_vs_tp4.throughput_ratio.low > 1.0", "topologies.tp4.capacity.goodput_rps >= 1000"],
)
EMPTY = replace(
    RUN, rows=(), run=replace(RUN.run, visits=(), ending=Ending.TOPOLOGY_FAILED, ending_message="tp4: no port")
)


def as_text(run: SyntheticRun, seed: int = 1) -> str:
    return json.dumps(summary_json(run.summary(seed)), allow_nan=False)


def test_the_same_seed_gives_the_same_summary_to_the_last_digit() -> None:
    assert as_text(RUN) == as_text(RUN)


def test_another_seed_moves_intervals_and_never_a_value() -> None:
    def values(seed: int) -> list[object]:
        steps = json.loads(as_text(RUN, seed))["topologies"]["tp4"]["steps"]
        return [[step["output_tokens_per_s"]["value"], step["ttft_ms"]["p50"]["value"]] for step in steps]

    assert values(1) == values(2)
    assert as_text(RUN, 1) != as_text(RUN, 2)


def test_the_keys_of_the_contract_are_there() -> None:
    summary = json.loads(as_text(RUN))
    assert summary["schema"] == 1
    step = summary["topologies"]["tp4"]["steps"][0]
    for metric in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"):
        assert step[metric].keys() == {"mean", "p50", "p90", "p99"}
    for key in ("output_tokens_per_s", "requests_per_s", "goodput_rps", "error_rate"):
        assert step[key].keys() >= {"value", "low", "high", "n"}
    assert (step["load"], step["verdict"], step["reasons"]) == (4, "valid", [])
    assert summary["comparisons"].keys() == {"tp2x2_vs_tp4"}


def test_every_value_lies_in_its_interval() -> None:
    def walk(value: object) -> int:
        if isinstance(value, dict):
            if value.get("low") is not None:
                assert value["low"] <= value["value"] <= value["high"]
                return 1
            return sum(walk(inner) for inner in value.values())
        return sum(walk(inner) for inner in value) if isinstance(value, list) else 0

    assert walk(json.loads(as_text(RUN))) > 100


def test_throughput_and_latency_are_those_of_the_servers() -> None:
    summary = json.loads(as_text(RUN))
    for name, server in (("tp4", TP4), ("tp2x2", TP2X2)):
        for step in summary["topologies"][name]["steps"]:
            assert step["ttft_ms"]["mean"]["value"] == pytest.approx(server.ttft_ms(step["load"]), rel=0.05)
            assert step["itl_ms"]["mean"]["value"] == pytest.approx(server.itl_ms(step["load"]), rel=0.02)
            assert step["in_flight_mean"] == pytest.approx(step["load"], rel=0.05)


def test_thresholds_are_judged_on_the_same_values() -> None:
    summary = json.loads(as_text(RUN))
    assert [result["status"] for result in summary["thresholds"]] == ["met", "failed"]


def test_a_percentile_with_too_few_samples_is_null_with_a_finding() -> None:
    few = two_topologies(load={"steps": [1], "hold_s": 3})
    p99 = json.loads(as_text(few))["topologies"]["tp4"]["steps"][0]["ttft_ms"]["p99"]
    assert p99["value"] is None
    assert p99["findings"][0]["id"] == "samples.percentile"


def test_a_run_that_measured_nothing_says_so_and_how_it_ended() -> None:
    summary = json.loads(as_text(EMPTY))
    assert summary["topologies_without_valid_step"] == ["tp4", "tp2x2"]
    assert summary["advice"].startswith("No step of any topology is valid")
    assert "tp4: no port" in summary["findings"][0]["message"]
    assert [result["status"] for result in summary["thresholds"]] == ["invalid", "invalid"]


def test_a_certificate_that_was_not_verified_is_told() -> None:
    def told(url: str, **tls: bool) -> list[str]:
        topologies = [{"name": "tp4", "kind": "external", "url": url, "tls": tls}]
        plan = plan_of({"tp4": TP4}, topologies=topologies)
        summary = replace(EMPTY, plan=plan).summary()
        return [finding.message for finding in summary.findings if finding.id == "tls.unverified"]

    (message,) = told("https://host", verify=False)
    assert message.startswith("the certificate of tp4 was not verified (tls.verify: false)")
    assert told("https://host") == told("http://host", verify=False) == []


def test_a_run_that_died_keeps_the_steps_it_has() -> None:
    visit = RUN.run.visits[0]
    run = replace(RUN.run, visits=(replace(visit, steps=visit.steps[:2]),), ending=Ending.INTERRUPTED)
    rows = tuple(row for row in RUN.rows if row.visit == visit.visit)
    partial = replace(RUN, run=run, rows=rows).summary()
    assert [step.load for step in partial.topologies["tp4"].steps] == [4, 16]
    assert partial.topologies_without_valid_step == ("tp2x2",)
    assert "tp2x2: no valid step" in partial.advice


def test_a_run_that_was_killed_is_called_so() -> None:
    killed = replace(RUN, run=replace(RUN.run, ending=Ending.RUNNING)).summary()
    assert "did not complete (killed, or still measuring)" in killed.findings[0].message


def test_the_upstreams_share_is_what_the_balancer_said() -> None:
    step = json.loads(as_text(RUN))["topologies"]["tp4"]["steps"][-1]
    assert sum(step["upstreams"].values()) == pytest.approx(1)
    assert step["upstreams"].keys() == {"127.0.0.1:9000", "127.0.0.1:9001"}


def test_telemetry_is_averaged_inside_the_hold_and_summed_over_engines() -> None:
    step = RUN.run.visits[0].steps[0]
    inside, outside = step.hold_start_ns + 1, step.hold_end_ns + 1
    series = "engine.requests.running"
    rows = (
        (inside, "tp4/engine0", series, "", 1.0),
        (inside, "tp4/engine1", series, "", 2.0),
        (inside + 1, "tp4/engine0", series, "", 3.0),
        (outside, "tp4/engine0", series, "", 99.0),
        (inside, "tp2x2/engine0", series, "", 50.0),
    )
    first = json.loads(as_text(replace(RUN, telemetry_rows=rows)))["topologies"]["tp4"]["steps"][0]
    assert first["telemetry"]["requests_running"] == 4  # (1 + 3) / 2 + 2
    assert first["telemetry"]["requests_waiting"] is None


def test_results_json_has_one_flat_record_for_each_topology_and_load() -> None:
    records = results_json(RUN.summary())
    assert [record["test_id"] for record in records] == [f"{t}-{n}" for t in ("tp4", "tp2x2") for n in (4, 16, 64)]
    assert [record["concurrent_requests"] for record in records] == [4, 16, 64] * 2
    results = records[0]["results"]
    assert isinstance(results, dict)
    assert results["success_rate"] == 1
    assert results["errors"] == []
    assert np.isfinite(json.loads(json.dumps(results))["avg_total_latency_ms"])


def test_a_staircase_that_ended_early_says_why_once_for_all_its_repeats() -> None:
    run = simulate({"a": TP4}, plan_of({"a": TP4}, load={"steps": [1, 4], "repeats": 2}))
    why = "deep in saturation: loads 32 and 64 carry no more than 16"
    summary = run.with_visits(lambda visit: replace(visit, stopped=why)).summary()
    told = [finding.message for finding in summary.findings if finding.id == "staircase.stopped"]
    assert told == [f"a: {why}: the steps above were left out; load.stop_early: false takes them"]


def test_of_a_step_that_was_taken_twice_the_valid_try_counts() -> None:
    run = simulate({"a": TP4}, plan_of({"a": TP4}, load={"steps": [4]}))
    (visit,) = run.run.visits
    (planned,) = visit.steps
    again = replace(planned, step=1, role=StepRole.REPEATED)
    rows = (
        *(replace(row, clock_step=True) for row in run.rows),
        *(replace(row, step=1, request_id=f"again-{row.request_id}") for row in run.rows),
    )
    # The two tries share their window here, so rates count both; latencies and the verdict are those of one.
    twice = replace(run, rows=rows, run=replace(run.run, visits=(replace(visit, steps=(planned, again)),))).recounted()
    twice = twice.with_visits(lambda one: replace(one, server_after=None))
    (step,) = twice.summary().topologies["a"].steps
    assert [judged.valid for judged in step.visits] == [False, True]
    assert step.latency["ttft"].n == run.summary().topologies["a"].steps[0].latency["ttft"].n
    told = [finding.message for finding in step.warnings if finding.id == "repeat.excluded"]
    assert len(told) == 1
    assert told[0].startswith("the first try of repeat 0 is left out: the wall clock was stepped")


def test_a_repeat_whose_visit_broke_off_and_was_completed_by_another_is_one_repeat() -> None:
    """Steps 1 and 2 of the first visit are retold as those of a second visit; step 0 stays, and of step 1 there are
    left-over rows in the broken visit, that no step claims."""
    whole = two_topologies(load={"steps": [4, 16, 64], "repeats": 2})
    first, *others = whole.run.visits
    broken = replace(first, steps=first.steps[:1], drained=False, server_after=None)
    rest = replace(first, visit=9, steps=first.steps[1:], server_before=None)
    rows = [replace(row, visit=9) if row.visit == first.visit and row.step else row for row in whole.rows]
    lost = [
        replace(row, request_id=f"lost-{row.request_id}")
        for row in whole.rows
        if row.visit == first.visit and row.step == 1 and row.index % 3 == 0
    ]
    record = replace(whole.run, visits=(broken, *others, rest), resumed=("2026-03-04T06:00:00+00:00",))
    split = replace(whole, run=record, rows=(*rows, *lost)).recounted()
    summary, before = summary_json(split.summary()), summary_json(whole.summary())
    name = first.topology
    for now, then in zip(summary["topologies"][name]["steps"], before["topologies"][name]["steps"], strict=True):
        assert now["verdict"] == then["verdict"] == "valid"
        assert [visit["repeat"] for visit in now["visits"]] in ([0, 1], [1, 0])
        assert now["ttft_ms"]["p50"]["n"] == then["ttft_ms"]["p50"]["n"]
    assert summary["timelines"][name]["repeats"] == 2
    (comparison,) = summary["comparisons"].values()
    assert len(comparison["steps"]) == 3
    assert "run.resumed" in [finding["id"] for finding in summary["findings"]]
