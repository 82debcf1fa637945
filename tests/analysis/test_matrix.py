import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from loadstair.analysis.results import results_json
from loadstair.analysis.summary import summary_json
from loadstair.plan.matrix import Burst
from loadstair.plan.summary_shape import MATRIX, Entries, Leaf, Named, Shape
from loadstair.samples.record import Outcome, RequestSample
from loadstair.samples.runrecord import Ending, StepRole
from loadstair.units import NS_PER_S
from tests.analysis.matrix_runs import TESTS, matrix_plan, matrix_run
from tests.analysis.synthetic import SyntheticRun, failed


@cache
def plain() -> dict[str, Any]:
    return told(matrix_run())


def told(run: SyntheticRun) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(summary_json(run.summary()), allow_nan=False))
    matrix: dict[str, Any] = values["matrix"]["tp4"]
    return matrix


def named(matrix: dict[str, Any], id_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(test for test in matrix["tests"] if test["id"] == id_)
    return found


def failing(id_: str, change: Callable[[RequestSample], RequestSample]) -> SyntheticRun:
    """The rows of this test's bursts changed; of T3, T4 and T5, two runs each."""
    run = matrix_run(matrix_plan(TESTS[2:], runs=2, baseline_requests=2))
    steps = {step.step for step in run.run.visits[0].steps if step.test == id_}
    return run.with_rows(lambda row: change(row) if row.step in steps else row).recounted()


def with_error(message: str, status: int | None = 500) -> Callable[[RequestSample], RequestSample]:
    return lambda row: replace(failed(row), status=status, error=message)


def test_numbers_are_those_of_the_bursts() -> None:
    test = named(plain(), "T3")  # 4 users, 12 ms a gap, 11 tokens
    assert test["ttft_ms"]["value"] == pytest.approx(60)  # 5 × 12
    assert test["tpot_ms"]["value"] == pytest.approx(12)
    assert test["e2e_ms"]["value"] == pytest.approx(180)  # (5 + 10) × 12
    assert test["output_tokens_per_s"]["value"] == pytest.approx(4 * 11 / 0.180, rel=1e-3)
    assert test["latency_ratio"]["value"] == pytest.approx(1.2)  # 180 / (15 × 10)
    assert (test["requests"], test["answered"], test["success_rate"], test["runs"]) == (12, 12, 1, 3)


def test_the_baseline_is_ten_single_requests_of_the_same_lengths_and_the_warm_up_is_left_out() -> None:
    tests = [*TESTS, {"id": "long", "users": 4, "input_tokens": 500, "output_tokens": 21}]
    matrix = told(matrix_run(matrix_plan(tests)))
    assert [(one["label"], one["requests"]) for one in matrix["baselines"]] == [
        ("baseline/T1", 10),
        ("baseline/long", 10),
    ]
    assert matrix["baselines"][1]["e2e_ms"]["value"] == pytest.approx(250)  # (5 + 20) × 10
    assert matrix["tests"][-1]["latency_ratio"]["value"] == pytest.approx(1.2)


def test_a_test_is_a_warning_above_twice_the_baseline_and_a_success_below() -> None:
    assert [test["status"] for test in plain()["tests"]] == ["success"] * 4 + ["warning"]  # 32 / 10


def test_the_four_answers_of_a_server_whose_truth_is_known() -> None:
    (answers,) = plain()["answers"]
    assert answers["latency_doubles"]["users"] == 16
    assert answers["recommended"]["users"] == 8
    # Requests take 15 gaps: 8 users 8 × 11 / 0.24 s = 367 tokens/s, 16 users 16 × 11 / 0.48 s = 367 as well.
    assert answers["saturates"]["users"] == 8
    assert answers["out_of_memory"]["users"] is None
    assert answers["out_of_memory"]["words"] == "not within the matrix, up to 16 users"
    assert all(answers[key]["certain"] for key in ("latency_doubles", "saturates", "recommended"))


def test_what_lies_beyond_the_matrix_is_not_named() -> None:
    def flat(_burst: Burst) -> float:
        return 10.0

    (answers,) = told(matrix_run(itl_ms=flat))["answers"]
    assert answers["latency_doubles"]["words"] == "not within the matrix, up to 16 users"
    assert answers["saturates"]["users"] is None
    assert answers["recommended"]["words"] == "16 users (T5), the most that the matrix tried"


def test_a_difference_inside_the_noise_is_called_so() -> None:
    def near(burst: Burst) -> float:
        return 21.0 if burst.users == 16 else 10.0

    matrix = told(matrix_run(itl_ms=near, spread=0.1))
    test = named(matrix, "T5")
    assert test["latency_ratio"]["low"] < 2 < test["latency_ratio"]["high"]
    assert any("cannot tell on which side of 2" in note for note in test["notes"])
    (answers,) = matrix["answers"]
    assert not answers["latency_doubles"]["certain"]


def test_one_run_gives_values_without_intervals() -> None:
    matrix = told(matrix_run(matrix_plan(runs=1)))
    test = named(matrix, "T5")
    assert test["e2e_ms"]["low"] is None
    assert test["latency_ratio"]["value"] == pytest.approx(3.2)
    assert test["latency_ratio"]["low"] is None
    assert "matrix.one_run" in {finding["id"] for finding in matrix["findings"]}


def test_the_runs_are_the_units_of_an_interval_not_the_requests() -> None:
    test = named(told(matrix_run(spread=0.1)), "T5")
    e2e = test["e2e_ms"]
    # 48 requests, but 3 bursts: t with 2 degrees of freedom is 4.3, so a spread of 10 % gives about ± 25 %.
    assert e2e["n"] == 48
    assert (e2e["high"] - e2e["low"]) / e2e["value"] > 0.1


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (with_error("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (with_error("torch.OutOfMemoryError: CUDA error"), "out_of_memory"),
        (with_error("Insufficient Storage", 507), "out_of_memory"),
        (with_error("Internal Server Error"), "server_error"),
        (with_error("room for the zoom", 503), "server_error"),
        (lambda row: failed(row, Outcome.TIMEOUT), "timeout"),
        (lambda row: replace(row, last_token_ns=row.sent_ns + 60_000_000_000), "timeout"),
        (lambda row: failed(row, Outcome.TRUNCATED), "server_error"),
    ],
)
def test_failures_are_told_apart(change: Callable[[RequestSample], RequestSample], kind: str) -> None:
    matrix = told(failing("T4", lambda row: change(row) if row.index == 0 else row))
    test = named(matrix, "T4")
    assert test["status"] == "failure"
    assert {error["kind"] for error in test["errors"]} == {kind}
    assert sum(error["requests"] for error in test["errors"]) == 2  # one of each run
    (answers,) = matrix["answers"]
    assert answers["recommended"]["users"] == 4  # the one before
    assert answers["out_of_memory"]["users"] == (8 if kind == "out_of_memory" else None)


def test_a_test_of_which_no_request_was_answered_is_a_failure_without_numbers() -> None:
    test = named(told(failing("T4", with_error("CUDA out of memory"))), "T4")
    assert (test["status"], test["answered"], test["success_rate"]) == ("failure", 0, 0)
    assert test["e2e_ms"]["value"] is None


def test_where_the_server_died_the_rest_is_unmeasured_and_the_test_has_failed() -> None:
    run = failing("T4", lambda row: failed(row, Outcome.KILLED))
    (visit,) = run.run.visits
    cut = next(place for place, step in enumerate(visit.steps) if step.test == "T4") + 1
    steps = (*visit.steps[: cut - 1], replace(visit.steps[cut - 1], tail_complete=False))
    record = replace(
        run.run,
        visits=(replace(visit, steps=steps, drained=False),),
        ending=Ending.TOPOLOGY_FAILED,
        ending_message="engine0 died",
    )
    run = replace(run, run=record, rows=tuple(row for row in run.rows if row.step < cut)).recounted()
    matrix = told(run)
    assert [(test["status"], test["verdict"]) for test in matrix["tests"][1:]] == [
        ("failure", "valid"),
        (None, "unmeasured"),
    ]
    assert matrix["tests"][1]["errors"][0]["message"] == "the server died: engine0 died"
    assert matrix["answers"][0]["recommended"]["users"] == 4


def test_an_invalid_burst_is_left_out_and_said() -> None:
    run = matrix_run()
    first = min(step.step for step in run.run.visits[0].steps if step.test == "T3")
    slow = run.with_rows(
        lambda row: (
            replace(row, bunched=5, bunched_late=5, last_token_ns=(row.last_token_ns or 0) + 10**9)
            if row.step == first
            else row
        )
    )
    test = named(told(slow), "T3")
    assert (test["verdict"], test["status"], test["e2e_ms"]["n"]) == ("valid", "success", 8)
    assert test["e2e_ms"]["value"] == pytest.approx(180)
    assert "1 of 3 bursts are invalid and left out" in test["notes"]


def test_a_burst_that_lost_a_worker_is_left_out_and_its_repeat_counts() -> None:
    run = matrix_run()
    (visit,) = run.run.visits
    lost = next(step for step in visit.steps if step.test == "T3")
    again = replace(lost, step=len(visit.steps) + lost.step, role=StepRole.REPEATED)
    later_ns = visit.steps[-1].hold_end_ns + NS_PER_S - lost.start_ns
    times = ("start_ns", "hold_start_ns", "hold_end_ns", "tail_end_ns")
    again = replace(again, **{name: getattr(again, name) + later_ns for name in times})
    steps = tuple(replace(step, workers_lost=("worker1",)) if step is lost else step for step in visit.steps)
    rows = tuple(moved(row, later_ns, again.step) for row in run.rows if row.step == lost.step)
    slow = tuple(moved(row, 0, lost.step, slower_ns=NS_PER_S) if row.step == lost.step else row for row in run.rows)
    record = replace(run.run, visits=(replace(visit, steps=(*steps, again)),))
    test = named(told(replace(run, run=record, rows=(*slow, *rows)).recounted()), "T3")
    assert (test["verdict"], test["status"], test["e2e_ms"]["n"]) == ("valid", "success", 12)  # 3 runs of 4 users
    assert test["e2e_ms"]["value"] == pytest.approx(180)
    assert "1 of 4 bursts are invalid and left out" in test["notes"]
    assert [reason["id"] for reason in test["reasons"]] == ["workers.lost"]


def moved(row: RequestSample, by_ns: int, step: int, *, slower_ns: int = 0) -> RequestSample:
    """The request of another step, so much later, and with an answer that took so much longer."""
    late = by_ns + slower_ns
    arrivals = [at + late for at in row.arrivals]
    return replace(
        row,
        request_id=f"{row.request_id}-{step}",
        step=step,
        dispatch_ns=row.dispatch_ns + by_ns,
        sent_ns=row.sent_ns + by_ns,
        headers_ns=arrivals[0] - 1000,
        first_token_ns=arrivals[0],
        last_token_ns=arrivals[-1],
        end_ns=row.end_ns + late,
        arrivals=arrivals,
    )


def test_a_run_without_a_valid_burst_has_no_valid_topology() -> None:
    run = matrix_run(matrix_plan(TESTS[:1])).with_rows(lambda row: replace(row, bunched=5, bunched_late=5))
    summary = run.summary()
    assert summary.topologies_without_valid_step == ("tp4",)
    matrix: Any = summary_json(summary)["matrix"]
    assert matrix["tp4"]["answers"][0]["latency_doubles"]["words"].startswith("not known")


def test_results_json_is_in_the_format_of_a_matrix() -> None:
    records = results_json(matrix_run().summary())
    assert [record["test_id"] for record in records] == ["T1", "T2", "T3", "T4", "T5"]
    assert records[2] == {
        "test_id": "T3",
        "concurrent_requests": 4,
        "input_tokens": 100,
        "max_output_tokens": 11,
        "results": {
            "avg_ttft_ms": pytest.approx(60),
            "avg_tpot_ms": pytest.approx(12),
            "avg_total_latency_ms": pytest.approx(180),
            "throughput_tokens_per_sec": pytest.approx(244.4, rel=1e-3),
            "peak_memory_mb": None,
            "success_rate": 1.0,
            "errors": [],
        },
    }


def test_repeats_of_the_whole_matrix_are_pooled() -> None:
    test = named(told(matrix_run(matrix_plan(TESTS[2:3], repeats=2))), "T3")
    assert (test["runs"], test["requests"]) == (6, 24)


def test_the_summary_has_the_shape_that_thresholds_are_checked_against() -> None:
    def walk(shape: Shape, value: Any, at: str) -> None:
        match shape:
            case Entries(entry=entry):
                for one in value:
                    walk(entry, one, f"{at}[]")
            case Leaf.NUMBER:
                assert value is None or isinstance(value, int | float), at
            case Leaf.OTHER | Named():
                pass
            case _:
                assert set(value) <= set(shape), at
                for key, inner in value.items():
                    walk(shape[key], inner, f"{at}.{key}")

    walk(MATRIX, told(matrix_run(spread=0.1)), "matrix.tp4")
