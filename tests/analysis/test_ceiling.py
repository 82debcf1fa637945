"""The load generator's ceiling against what the steps measured."""

from dataclasses import replace

import pytest

from loadstair.analysis.summary import Summary, summary_json
from loadstair.samples.calibration import GroundTruth
from tests.analysis.synthetic import SyntheticRun, plan_of, saturating, simulate
from tests.calibrate.values import MACHINE, calibration

SERVERS = {"one": saturating(itl_ms=10, users_at_double=1e9, ttft_ms=10)}
LOADS = [4, 16]


def run() -> SyntheticRun:
    """Two workers; about 100 tokens/s and 3 requests/s for each user."""
    return simulate(SERVERS, plan_of(SERVERS, load={"steps": LOADS, "hold_s": 4}))


def summary_with(
    *,
    chunks_per_s: float = 1e6,
    requests_per_s: float = 1e6,
    cores: int = 8,
    ground_truth: GroundTruth = GroundTruth.NATIVE,
) -> Summary:
    """Of a machine where one worker carries so much."""
    kept = calibration(
        chunks_per_s=chunks_per_s,
        requests_per_s=requests_per_s,
        machine={**MACHINE, "cores": cores},
        ground_truth=ground_truth,
    )
    synthetic = run()
    return replace(synthetic, run=replace(synthetic.run, calibration=kept)).summary()


def warned(summary: Summary) -> list[tuple[float, str]]:
    steps = summary.topologies["one"].steps
    return [(step.load, finding.id) for step in steps for finding in step.warnings if "ceiling" in finding.id]


def told(summary: Summary, id_: str = "generator.near_ceiling") -> list[str]:
    return [finding.message for finding in summary.findings if finding.id == id_]


def test_a_step_beyond_the_ceiling_is_warned_of_and_stays_valid() -> None:
    summary = summary_with(chunks_per_s=500)  # 2 × 500 for 1600 tokens/s at 16 users
    assert warned(summary) == [(16, "generator.ceiling.chunks")]
    assert all(step.valid for step in summary.topologies["one"].steps)
    (message,) = [f.message for f in summary.topologies["one"].steps[1].warnings if f.id == "generator.ceiling.chunks"]
    assert "beyond the 1,000 that 2 workers carried" in message


def test_the_run_says_where_it_was_beyond_the_ceiling() -> None:
    (message,) = told(summary_with(chunks_per_s=500), "generator.beyond_ceiling")
    assert "one at 16;" in message


def test_requests_have_a_ceiling_of_their_own() -> None:
    assert warned(summary_with(requests_per_s=10)) == [(16, "generator.ceiling.requests")]  # 2 × 10 for about 50


def test_what_the_simulated_engine_could_send_is_no_ceiling_of_the_generator() -> None:
    summary = summary_with(chunks_per_s=225, requests_per_s=10, ground_truth=GroundTruth.SIMULATED)
    assert (warned(summary), told(summary), told(summary, "generator.beyond_ceiling")) == ([], [], [])


def test_near_the_ceiling_is_a_note_of_the_run() -> None:
    summary = summary_with(chunks_per_s=225)  # 2 × 225 for about 400 at 4 users: 89 %; beyond it at 16
    assert warned(summary) == [(16, "generator.ceiling.chunks")]
    (message,) = told(summary)
    assert "one at 4;" in message


def test_far_below_the_ceiling_there_is_nothing_to_say() -> None:
    summary = summary_with()
    assert (warned(summary), told(summary), told(summary, "generator.beyond_ceiling")) == ([], [], [])


def test_the_summary_tells_the_ceiling_of_all_workers_and_of_one() -> None:
    values = summary_json(summary_with(chunks_per_s=25_600, requests_per_s=2000))["generator"]
    assert values == {
        "ceiling_chunks_per_s": 51_200,  # 2 workers
        "ceiling_tokens_per_s": 51_200,
        "ceiling_requests_per_s": 4000,
        "ceiling_chunks_per_s_per_worker": 25_600,
        "ceiling_requests_per_s_per_worker": 2000,
        "workers": 2,
        "ttft_error_ms_p99": pytest.approx(0.08),
        "itl_error_ms_p99": pytest.approx(0.01),
        "date": "2026-11-21T14:10:57+00:00",
        "ground_truth": "native",
        "lower_bound": "",
    }


def test_more_workers_than_cores_carry_no_more() -> None:
    values = summary_json(summary_with(chunks_per_s=25_600, cores=1))["generator"]
    assert isinstance(values, dict)
    assert values["ceiling_tokens_per_s"] == 25_600


def test_without_a_calibration_or_a_step_there_is_no_ceiling() -> None:
    synthetic = run()
    assert summary_json(synthetic.summary())["generator"] is None
    nothing = replace(synthetic, rows=(), run=replace(synthetic.run, visits=(), calibration=calibration()))
    assert summary_json(nothing.summary())["generator"] is None
