"""Staircases whose knee, doubling and failure are known from the functions that made them."""

from dataclasses import replace

import pytest

from loadstair.analysis.staircase.capacity import Capacity
from loadstair.samples.record import Outcome
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


def test_an_slo_that_is_violated_is_part_of_the_answer() -> None:
    run = ladder(FLAT_TO_8, slo={"ttft_ms_p90": 12})  # 20 ms at 32 users
    assert capacity_of(run).slo_violated_load == 32
    assert run.summary().advice.endswith("tp4 violates the SLO from 32 users on.")


@pytest.mark.parametrize(("outcome", "cut_off"), [(Outcome.HTTP_ERROR, False), (Outcome.REFUSED, True)])
def test_a_server_that_vanished_has_not_shown_its_capacity(outcome: Outcome, cut_off: bool) -> None:
    run = ladder(LINEAR).with_rows(lambda row: replace(failed(row), outcome=outcome) if row.load == 32 else row)
    run = run.recounted().with_visits(lambda visit: replace(visit, server_after=None))
    assert capacity_of(run).cut_off is cut_off


def test_without_an_slo_there_is_no_goodput() -> None:
    assert capacity_of(ladder(LINEAR)).goodput_rps.value is None


def test_the_failure_point_is_the_first_step_with_a_failed_request_and_is_not_recommended() -> None:
    run = ladder(LINEAR).with_rows(
        lambda row: failed(row) if row.load == 16 and row.index == 1 and not row.repeat else row
    )
    run = run.recounted().with_visits(lambda visit: replace(visit, server_after=None))
    failure = run.summary().topologies["tp4"].failure
    assert failure is not None
    assert (failure.load, failure.kind, failure.message) == (16, "server_error", "503 Service Unavailable")
    assert capacity_of(run).recommended_load == 8


def test_a_load_above_one_that_missed_the_slo_is_not_recommended() -> None:
    # TTFT 20 ms at 2 users only, 5 ms elsewhere
    bump = Server(ttft_ms=lambda load: 20 if load == 2 else 5, itl_ms=lambda load: 5, noise=0.02)
    found = capacity_of(ladder(bump, slo={"ttft_ms_p90": 12}))
    assert (found.recommended_load, found.slo_capacity_load) == (1, 1)


def test_a_load_above_an_invalid_one_is_not_recommended() -> None:
    run = ladder(LINEAR, slo={"ttft_ms_p90": 12})
    found = capacity_of(run.with_steps(lambda _, step: replace(step, tail_complete=step.load != 4)))
    assert (found.recommended_load, found.slo_capacity_load) == (2, 2)
    assert found.saturation_load == 32


def test_without_its_first_step_nothing_tells_where_latency_doubles() -> None:
    slope = Server(ttft_ms=lambda load: 5 + load, itl_ms=lambda load: 5 + load, noise=0.02)
    found = capacity_of(ladder(slope).with_steps(lambda _, step: replace(step, tail_complete=step.load != 1)))
    assert found.latency_doubling_load is None
    assert found.recommended_load is None
    assert {"capacity.no_baseline", "capacity.no_recommendation"} <= {finding.id for finding in found.findings}


def short(server: Server, limit_ms: float) -> Capacity:
    """1, 2 and 4 users for 2 s, requests of 160 ms: some 12, 25 and 50 requests, a p99 needs 100."""
    servers = {"tp4": server}
    plan = plan_of(servers, load={"steps": [1, 2, 4], "hold_s": 2}, slo={"ttft_ms_p99": limit_ms})
    return capacity_of(simulate(servers, plan))


def test_a_percentile_limit_with_too_few_samples_is_unknown_and_the_recommendation_says_so() -> None:
    found = short(LINEAR, 12)
    assert (found.recommended_load, found.slo_capacity_load) == (4, None)
    told = {finding.id: finding.message for finding in found.findings}
    assert "check ttft_ms_p99 at load 1, 2, 4" in told["capacity.slo_unchecked"]


def test_a_percentile_limit_that_no_further_samples_could_save_is_violated() -> None:
    # All of some 12 requests lie beyond; were all others up to 100 within, 12 % would still be.
    found = short(LINEAR, 1)
    assert (found.recommended_load, found.slo_capacity_load) == (None, None)


def test_a_dent_that_later_steps_contradict_is_no_knee() -> None:
    dent = Server(ttft_ms=lambda load: 5, itl_ms=lambda load: 8 if load == 8 else 5, noise=0.02)
    found = capacity_of(ladder(dent))  # 8 users carry 2 × 5 / 8 = 1.25 times the tokens of 4, 16 users 4 times
    assert found.knee_load is None
    assert "capacity.no_knee" in [finding.id for finding in found.findings]


def test_a_knee_inside_the_noise_is_not_claimed() -> None:
    servers = {"tp4": LINEAR}
    plan = plan_of(servers, load={"steps": [2, 4, 8], "hold_s": 4, "repeats": 2})
    # At 8 users the second repeat carried a quarter: the gain is 2 × (1 + ¼) / 2 = 1.25, give or take anything.
    run = simulate(servers, plan).with_rows(
        lambda row: (
            replace(row, arrivals=row.arrivals[::4], output_tokens=None) if row.repeat and row.load == 8 else row
        )
    )
    found = capacity_of(run)
    assert found.knee_load is None
    assert "capacity.knee_unsure" in [finding.id for finding in found.findings]


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
