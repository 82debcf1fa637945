import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.staircase.placement import bisect_load, refine_load
from loadstair.analysis.staircase.slo_capacity import slo_capacity
from loadstair.analysis.step.pool import LoadStep
from loadstair.samples.record import Outcome
from tests.analysis.synthetic import Server, SyntheticRun, plan_of, simulate

KNEE = Server(ttft_ms=lambda load: 20 * max(1, load / 20), itl_ms=lambda load: 10 * max(1, load / 20))
"""Throughput is a line up to 20 users and a plateau from there."""


def run_of(loads: list[int], *, slo: Mapping[str, float] | None = None, server: Server = KNEE) -> SyntheticRun:
    return simulate({"a": server}, plan_of({"a": server}, load={"steps": loads, "warmup_s": 3, "hold_s": 6}, slo=slo))


def steps_of(run: SyntheticRun) -> tuple[LoadStep, ...]:
    return run.summary().topologies["a"].steps


def refined(loads: list[int], seed: int = 1) -> float | None:
    return refine_load(steps_of(run_of(loads)), np.random.default_rng(seed))


def test_the_next_step_lies_near_the_knee_and_was_not_measured() -> None:
    load = refined([1, 4, 16, 64])
    assert load is not None
    assert 16 < load < 64
    assert load == round(load)


@pytest.mark.slow
def test_each_step_that_is_placed_narrows_the_knee_until_it_is_known() -> None:
    loads = [1, 4, 16, 64]
    placed = []
    while (load := refined(sorted(loads))) is not None and len(placed) < 8:
        placed.append(load)
        loads.append(int(load))
    assert len(set(placed)) == len(placed)
    assert all(1 < one < 64 for one in placed)


def test_three_loads_are_too_few_to_place_anything() -> None:
    assert refined([1, 16, 64]) is None


def test_nothing_is_placed_where_no_whole_number_lies_between() -> None:
    assert refined([1, 2, 3, 4]) is None


def test_the_slo_is_bisected_between_what_meets_and_what_violates_it() -> None:
    # A gap is 10 ms up to 20 users, 20 ms at 40, 40 ms at 80.
    steps = steps_of(run_of([5, 10, 20, 80], slo={"itl_ms_p90": 25}))
    assert [step.slo_met for step in steps] == [True, True, True, False]
    assert bisect_load(steps) == 40  # √(20 × 80)


def test_a_bracket_within_a_tenth_is_not_bisected_nor_one_that_is_open() -> None:
    close = steps_of(run_of([20, 50, 54], slo={"itl_ms_p50": 26}))
    assert [step.slo_met for step in close] == [True, True, False]
    assert bisect_load(close) is None
    assert bisect_load(steps_of(run_of([5, 10], slo={"itl_ms_p90": 25}))) is None
    assert bisect_load(steps_of(run_of([60, 80], slo={"itl_ms_p90": 25}))) is None
    assert bisect_load(steps_of(run_of([5, 80]))) is None


def test_a_step_that_failed_its_requests_bounds_the_slo_too() -> None:
    run = run_of([5, 20], slo={"itl_ms_p90": 25})
    failing = run.with_rows(
        lambda row: replace(row, outcome=Outcome.TIMEOUT) if row.load == 20 and row.index % 2 else row
    ).recounted()
    assert bisect_load(steps_of(failing)) == 10


@pytest.mark.parametrize("seed", range(5))
def test_the_slos_capacity_is_where_the_limit_is_reached(seed: int) -> None:
    """Gaps of 10 ms × load / 20 on average, their median lower by √(1 + 0.1²): it is 26 ms at 52.3 users. Between two
    loads beyond the knee its logarithm is linear in that of the load."""
    truth = 52 * math.sqrt(1 + KNEE.noise**2)
    steps = steps_of(run_of([10, 30, 90], slo={"itl_ms_p50": 26}))
    found = slo_capacity(steps, np.random.default_rng(seed))
    assert found.value == pytest.approx(truth, rel=0.01)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= truth <= found.high
    assert found.high / found.low < 1.2


def test_without_a_percentile_to_interpolate_the_interval_is_the_bracket() -> None:
    # 32 tokens: e2e is 0.33 s up to 20 users, at 90 users 1.5 s.
    found = slo_capacity(steps_of(run_of([10, 20, 90], slo={"e2e_s_max": 0.9})), np.random.default_rng(1))
    assert (found.value, found.low, found.high) == (20, 20, 90)


def test_a_slo_that_is_never_violated_has_no_capacity_and_says_so() -> None:
    found = slo_capacity(steps_of(run_of([5, 10], slo={"itl_ms_p90": 25})), np.random.default_rng(1))
    assert found.value is None
    assert found.findings[0].message == "the SLO is not known to be violated up to load 10: add higher load.steps"
