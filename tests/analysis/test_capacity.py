"""Staircases whose knee, doubling and failure are known from the functions that made them."""

from dataclasses import replace

import pytest

from loadstair.analysis.capacity import Capacity
from tests.analysis.synthetic import TP4, Server, SyntheticRun, failed, plan_of, simulate, true_throughput

STEPS = [1, 2, 4, 8, 16, 32]


def ladder(server: Server, **changes: object) -> SyntheticRun:
    servers = {"tp4": server}
    return simulate(servers, plan_of(servers, load={"steps": STEPS, "hold_s": 6}, **changes))


def capacity_of(run: SyntheticRun) -> Capacity:
    return run.summary().topologies["tp4"].capacity


FLAT_TO_8 = Server(ttft_ms=lambda load: 5 * max(1, load / 8), itl_ms=lambda load: 5 * max(1, load / 8), noise=0.02)
"""Throughput grows with the users up to 8 and is constant from there."""
LINEAR = Server(ttft_ms=lambda load: 5, itl_ms=lambda load: 5, noise=0.02)
"""Never saturates."""


def test_the_knee_is_where_growth_ends() -> None:
    assert capacity_of(ladder(FLAT_TO_8)).knee_load == 8


def test_a_line_has_no_knee_and_says_so() -> None:
    found = capacity_of(ladder(LINEAR))
    assert found.knee_load is None
    assert {"capacity.no_knee", "capacity.not_reached", "capacity.no_doubling"} == {f.id for f in found.findings}


def test_latency_doubles_at_the_first_step_above_twice_the_first_steps() -> None:
    # e2e grows by load / 8: at 16 it is 2.0 times the first (noise decides), at 32 surely above.
    slope = Server(ttft_ms=lambda load: 5 + load, itl_ms=lambda load: 5 + load, noise=0.02)
    # 5 + 1 = 6 at the first; 5 + 4 = 9 at 4; 5 + 8 = 13 > 12 at 8
    assert capacity_of(ladder(slope)).latency_doubling_load == 8


def test_saturation_throughput_is_the_known_plateau() -> None:
    found = capacity_of(ladder(FLAT_TO_8)).output_tokens_per_s
    truth = true_throughput(FLAT_TO_8, 16, 32)
    assert found.value == pytest.approx(truth, rel=0.05)


def test_without_an_slo_the_recommendation_ends_before_latency_doubles() -> None:
    slope = Server(ttft_ms=lambda load: 5 + load, itl_ms=lambda load: 5 + load, noise=0.02)
    assert capacity_of(ladder(slope)).recommended_load == 4


def test_with_an_slo_the_recommendation_is_the_last_step_that_met_it() -> None:
    # TTFT of FLAT_TO_8: 5 ms up to 8 users, 10 ms at 16, 20 ms at 32
    found = capacity_of(ladder(FLAT_TO_8, slo={"ttft_ms_p90": 12}))
    assert (found.recommended_load, found.slo_capacity_load) == (16, 16)
    assert found.goodput_rps.value is not None


def test_without_an_slo_there_is_no_goodput() -> None:
    assert capacity_of(ladder(LINEAR)).goodput_rps.value is None


def test_the_failure_point_is_the_first_step_with_a_failed_request_and_is_not_recommended() -> None:
    run = ladder(LINEAR).with_rows(
        lambda row: failed(row) if row.load == 16 and row.index == 1 and not row.repeat else row
    )
    run = run.recounted().with_visits(lambda visit: replace(visit, server_after=None))
    found = capacity_of(run)
    assert found.failure_load == 16
    assert found.recommended_load == 32


def test_an_invalid_step_is_never_the_capacity() -> None:
    run = ladder(LINEAR).with_steps(lambda _, step: replace(step, tail_complete=step.load != 32))
    found = capacity_of(run)
    assert found.saturation_load == 16
    assert "capacity.cut_off" in [finding.id for finding in found.findings]
    assert "may lie higher" in run.summary().advice


def test_no_valid_step_leaves_everything_unknown() -> None:
    found = capacity_of(ladder(LINEAR).with_steps(lambda _, step: replace(step, tail_complete=False)))
    assert found.output_tokens_per_s.value is None
    assert found.recommended_load is None
    assert [finding.id for finding in found.findings] == ["capacity.none"]


def test_costs_follow_from_the_price_of_all_gpus() -> None:
    found = capacity_of(ladder(TP4))
    tokens, cost = found.output_tokens_per_s, found.usd_per_million_output_tokens
    assert tokens.value is not None
    assert cost.value == pytest.approx(10 / 3600 / tokens.value * 1e6)  # 4 GPUs × 2.5 USD an hour
    assert found.output_tokens_per_s_per_gpu.value == pytest.approx(tokens.value / 4)
    assert cost.low is not None
    assert tokens.high is not None
    assert cost.low == pytest.approx(10 / 3600 / tokens.high * 1e6)  # dear where throughput is low
