"""A matrix in a plan: what it gives, what it refuses, and the bursts of a visit."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loadstair.plan.matrix import BurstKind, bursts
from loadstair.plan.model import Lengths, Matrix, Plan
from loadstair.plan.parse import parse_plan, plan_yaml, read_measured_plan, read_plan
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import expected_duration_s, quick
from loadstair.preview import preview
from tests.plan.test_parse import PLANS, SIMULATED, problems_of

TESTS = [
    {"id": "T1", "users": 1, "input_tokens": 100, "output_tokens": 50},
    {"id": "T2", "users": 4, "input_tokens": 100, "output_tokens": 50},
    {"id": "T3", "users": 4, "input_tokens": 500, "output_tokens": 200},
]


def raw_with(**changes: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SIMULATED)
    del raw["load"], raw["workload"]["input_tokens"], raw["workload"]["output_tokens"]
    return raw | {"matrix": {"tests": copy.deepcopy(TESTS), **changes}}


def matrix_of(plan: Plan) -> Matrix:
    assert plan.matrix is not None
    return plan.matrix


def test_the_classical_plan_has_nine_tests_and_their_runs() -> None:
    matrix = matrix_of(read_plan(PLANS / "vllm-matrix.yaml"))
    told = [(t.id, t.users, t.input_tokens.mean, t.output_tokens.mean) for t in matrix.tests]
    assert told == [
        *((f"T{place}", users, 100, 100) for place, users in enumerate((1, 2, 4, 8, 16, 32), start=1)),
        *((f"T{place}", users, 500, 200) for place, users in enumerate((4, 8, 16), start=7)),
    ]
    assert (matrix.baseline_requests, matrix.warmup_requests, matrix.runs, matrix.cooldown_s) == (10, 3, 3, 30)
    assert (matrix.latency_s_max, matrix.warn_factor) == (60, 2)


def test_a_matrix_gives_the_loads_and_the_lengths() -> None:
    plan = parse_plan(raw_with(), "demo.yaml")
    assert plan.load.steps == (1, 4)
    assert (plan.workload.input_tokens, plan.workload.output_tokens) == (Lengths(mean=100), Lengths(mean=50))


def test_the_plan_as_resolved_reads_as_the_same_plan(tmp_path: Path) -> None:
    plan = parse_plan(raw_with(), "demo.yaml")
    path = tmp_path / "plan.yaml"
    path.write_text(plan_yaml(plan), encoding="utf-8")
    assert read_measured_plan(path) == plan


def test_a_plan_without_a_matrix_needs_its_loads_and_lengths_as_ever() -> None:
    raw = raw_with()
    del raw["matrix"]
    assert problems_of(raw) == {
        "load": "is missing",
        "workload.input_tokens": "is missing",
        "workload.output_tokens": "is missing",
    }


def test_a_visit_warms_up_measures_a_baseline_for_each_pair_of_lengths_and_runs_each_test() -> None:
    order = bursts(matrix_of(parse_plan(raw_with(runs=2, cooldown_s=7), "demo.yaml")))
    assert [burst.step for burst in order] == list(range(9))
    assert [(burst.label, burst.users, burst.requests) for burst in order] == [
        ("warmup", 1, 3),
        ("baseline/T1", 1, 10),
        ("baseline/T3", 1, 10),
        ("T1", 1, 1), ("T1", 1, 1),
        ("T2", 4, 4), ("T2", 4, 4),
        ("T3", 4, 4), ("T3", 4, 4),
    ]  # fmt: skip
    assert order[2].output_tokens == Lengths(mean=200)
    assert [burst.pause_s for burst in order if burst.kind is BurstKind.TEST] == [0, 7, 0, 7, 0, 0]


def test_a_matrix_without_warm_up_begins_with_the_baseline() -> None:
    order = bursts(matrix_of(parse_plan(raw_with(warmup_requests=0), "demo.yaml")))
    assert (order[0].step, order[0].label) == (0, "baseline/T1")


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("matrix.tests[1].id", {"tests": [TESTS[0], TESTS[0]]}, "'T1' is the id of an earlier test"),
        ("matrix.tests", {"tests": []}, "at least 1 item"),
        ("matrix.tests[0].users", {"tests": [TESTS[0] | {"users": 0}]}, "greater than 0, not 0"),
        ("matrix.tests[0].id", {"tests": [TESTS[0] | {"id": "a/b"}]}, "letters, digits"),
        ("matrix.run", {"run": 3}, "unknown key; did you mean runs?"),
        ("matrix.warn_factor", {"warn_factor": 1}, "greater than 1"),
        ("matrix.latency_s_max", {"latency_s_max": 900}, "900 s is longer than a request may take"),
    ],
)
def test_a_mistake_in_a_matrix_is_told_alone(path: str, change: dict[str, Any], message: str) -> None:
    problems = problems_of(raw_with(**change))
    assert list(problems) == [path]
    assert message in problems[path]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"slo": {"ttft_ms_p99": 500}}, "slo"),
        ({"load": {"precision": 0.03}}, "load.precision"),
        ({"load": {"on_worker_lost": "replace"}}, "load.on_worker_lost"),
        ({"load": {"steps": [1, 2]}}, "load.steps"),
    ],
)
def test_keys_of_a_staircase_are_refused_beside_a_matrix(change: dict[str, Any], path: str) -> None:
    assert path in problems_of(raw_with() | change)


def test_the_longest_test_must_fit_the_simulated_engine() -> None:
    huge = TESTS[0] | {"id": "T9", "input_tokens": 2_000_000}
    problems = problems_of(raw_with(tests=[*TESTS, huge]))
    assert "one request needs 2.00005e+06" in problems["topologies[0].engines[0].tp"]


def test_a_threshold_may_name_a_test_of_a_matrix_and_only_there() -> None:
    threshold = "matrix.tp4.tests[id=T2].latency_ratio <= 2"
    assert parse_plan(raw_with() | {"thresholds": [threshold]}, "demo.yaml").thresholds == (threshold,)
    assert "thresholds[0]" in problems_of(SIMULATED | {"thresholds": [threshold]})
    wrong = problems_of(raw_with() | {"thresholds": ["matrix.tp4.answers[0].recomended.users > 2"]})
    assert "did you mean recommended?" in wrong["thresholds[0]"]


def test_a_threshold_on_a_test_that_the_matrix_has_not_is_refused_with_the_plan() -> None:
    wrong = problems_of(raw_with() | {"thresholds": ["matrix.tp4.tests[id=T9].latency_ratio <= 2"]})
    assert "the plan has no test T9; its tests are T1, T2" in wrong["thresholds[0]"]


def test_quick_halves_the_runs_and_the_idle_time_and_keeps_the_tests() -> None:
    plan = read_plan(PLANS / "vllm-matrix.yaml")
    short = matrix_of(quick(plan, partial(expected_e2e_s, plan)))
    assert (short.runs, short.cooldown_s, len(short.tests)) == (2, 15, 9)  # 3 runs: half, rounded up


def test_the_expected_duration_counts_every_request_and_pause() -> None:
    plan = parse_plan(raw_with(runs=2, cooldown_s=7), "demo.yaml")
    # A request of 50 tokens takes 1 s, one of 200 then 4 s. Start 4 s; warm-up 3 × 1; baselines 10 × 1 + 10 × 4;
    # T1 and T2 2 × 1 each, T3 2 × 4; two pauses.
    assert expected_duration_s(plan, lambda _topology, _load: 1.0) == 4 + 3 + 50 + 2 + 2 + 8 + 2 * 7


def test_check_prints_the_tests_in_place_of_steps() -> None:
    lines = list(preview(read_plan(PLANS / "vllm-matrix.yaml"), PLANS))
    assert "  test T9: 16 users, 500 in / 200 out" in lines
    assert not any("steps (users)" in line for line in lines)
