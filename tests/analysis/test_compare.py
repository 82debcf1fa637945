import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.advice import advice
from loadstair.analysis.comparison.compare import Side, claim, compare, crossover
from loadstair.analysis.statistics.bootstrap import Measured, Ratio, rate_measured, ratio
from loadstair.analysis.statistics.estimate import Estimate
from loadstair.analysis.step.throughput import SLICES, SlicedRate
from loadstair.plan.model import LoadMode
from tests.analysis.synthetic import TP2X2, TP4, failed, plan_of, simulate, true_throughput, two_topologies

RUN = two_topologies(load={"repeats": 3, "steps": [4, 16, 64]})
SUMMARY = RUN.summary()
COMPARISON = SUMMARY.comparisons[0]


def ratio_of(value: float, spread: float, seed: int) -> Ratio:
    draws = math.log(value) + np.random.default_rng(seed).normal(0, spread, 600)
    return Ratio(value=value, log_draws=draws, n=3)


def test_ratios_are_other_over_first_and_hold_the_truth() -> None:
    assert (COMPARISON.first, COMPARISON.other) == ("tp4", "tp2x2")
    for step in COMPARISON.steps:
        truth = true_throughput(TP2X2, step.load, 32) / true_throughput(TP4, step.load, 32)
        assert step.throughput_ratio.value == pytest.approx(truth, rel=0.05)


def test_the_same_server_twice_is_told_apart_by_nothing() -> None:
    same = {"a": TP4, "b": TP4}
    run = simulate(same, plan_of(same, load={"repeats": 3, "steps": [4, 16], "hold_s": 5}), drift=0.05)
    summary = run.summary()
    assert [claim(step.throughput_ratio) for step in summary.comparisons[0].steps] == [None, None]
    assert "cannot be told apart" in summary.advice


def test_throughput_crosses_between_the_loads_where_the_truth_does() -> None:
    # tp2x2 / tp4 is below 1 at 16 users and above at 64
    crossing = COMPARISON.throughput_crossover_load
    assert crossing.low is not None
    assert crossing.high is not None
    assert 16 < crossing.low <= crossing.high < 64


def test_a_crossing_is_interpolated_in_the_logarithm_of_the_load() -> None:
    ratios = {4.0: ratio_of(0.5, 1e-9, 1), 16.0: ratio_of(2.0, 1e-9, 2)}
    found, findings = crossover(ratios, "throughput", np.random.default_rng(1))
    assert found.value == pytest.approx(8)  # log 0.5 and log 2 are equally far from 0: sqrt(4 × 16)
    assert findings == ()


def test_no_change_of_sign_is_no_crossover_and_said() -> None:
    ratios = {4.0: ratio_of(1.5, 0.01, 1), 16.0: ratio_of(2.0, 0.01, 2)}
    found, findings = crossover(ratios, "throughput", np.random.default_rng(1))
    assert found.value is None
    assert [finding.id for finding in findings] == ["crossover.none"]


def test_a_crossing_inside_the_noise_has_no_interval_and_says_so() -> None:
    ratios = {4.0: ratio_of(0.99, 0.2, 1), 16.0: ratio_of(1.01, 0.2, 2)}
    found, findings = crossover(ratios, "throughput", np.random.default_rng(1))
    assert found.low is None
    assert [finding.id for finding in findings] == ["crossover.unsure"]


def climb(
    throughput: Callable[[float], float], loads: Sequence[float], rng: np.random.Generator, *, drift: float
) -> dict[float, Measured]:
    """Three repeats. `drift`: coefficient of variation of a factor that all loads of a repeat share; each hold's own
    mean has one of 1 % besides."""
    factors = np.exp(rng.normal(0, drift, 3))

    def hold(mean: float) -> SlicedRate:
        return SlicedRate(per_slice=mean * (1 + 0.01 * math.sqrt(SLICES) * rng.normal(0, 1, SLICES)), n=1000)

    return {
        load: rate_measured({r: hold(throughput(load) * factor) for r, factor in enumerate(factors)}, rng)
        for load in loads
    }


@pytest.mark.slow
def test_of_the_same_topology_twice_none_wins_but_for_the_doubt_that_is_left() -> None:
    step = SUMMARY.topologies["tp4"].steps[0]
    loads = (16.0, 32.0, 64.0)
    won = won_at_a_step = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        a, b = (
            Side(
                name=name,
                steps=[
                    replace(step, load=load, tokens=tokens)
                    for load, tokens in climb(lambda load: 100 * load**0.2, loads, rng, drift=0.02).items()
                ],
                gpus=None,
                cut_off=False,
                per_joule={},
            )
            for name in "ab"
        )
        found = compare(a, b, rng)
        won += claim(found.throughput_ratio) is not None
        won_at_a_step += sum(claim(step.throughput_ratio) is not None for step in found.steps)
    assert won <= 7  # of 100, where 5 may err
    assert won_at_a_step <= 0.07 * 100 * len(loads)


@pytest.mark.slow
def test_a_planted_crossover_lies_in_its_interval_as_often_as_it_says() -> None:
    loads = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = math.exp(rng.uniform(math.log(3), math.log(24)))
        first = climb(lambda load: 100 * load**0.7, loads, rng, drift=0.01)
        other = climb(lambda load, at=truth: 100 * load**0.7 * (load / at) ** 0.1, loads, rng, drift=0.01)  # type: ignore[misc]
        ratios = {load: ratio(other[load], first[load], rng) for load in loads}
        found, _ = crossover(ratios, "throughput", rng)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 90 <= held <= 99


def test_a_difference_that_changes_its_sign_twice_says_so() -> None:
    values = {2.0: 1.2, 4.0: 0.8, 8.0: 1.01, 16.0: 1.3}
    ratios = {load: ratio_of(value, 0.01, int(load)) for load, value in values.items()}
    found, (finding,) = crossover(ratios, "throughput", np.random.default_rng(1))
    assert finding.id == "crossover.several"
    assert "2 times (between 2 and 4, between 4 and 16)" in finding.message  # at 8 it is inside the noise
    assert found.value is not None


def test_a_side_whose_highest_steps_are_invalid_has_no_capacity_to_compare() -> None:
    run = RUN.with_steps(lambda visit, step: replace(step, tail_complete=visit.topology != "tp2x2" or step.load != 64))
    summary = run.summary()
    found = summary.comparisons[0]
    assert found.throughput_ratio.value is None
    assert found.steps[-1].throughput_ratio.value is not None
    assert "compare.cut_off" in [finding.id for finding in found.findings]
    assert "t capacity" not in summary.advice
    assert summary.advice.startswith("tp2x2 carries 0.9")
    assert "the tokens of tp4 at 16 users" in summary.advice
    assert "The capacity of tp2x2 may lie higher" in summary.advice


def test_a_topology_that_fails_its_requests_has_shown_its_capacity() -> None:
    run = RUN.with_rows(lambda row: failed(row) if row.topology == "tp4" and row.load == 64 and row.index else row)
    run = run.recounted().with_visits(lambda visit: replace(visit, server_after=None))
    found = run.summary().comparisons[0]
    assert found.throughput_ratio.value is not None


def test_where_both_peak_at_one_load_the_comparison_at_capacity_is_that_loads() -> None:
    assert COMPARISON.throughput_ratio == COMPARISON.steps[-1].throughput_ratio  # both grow up to 64 users


def test_loads_invalid_on_either_side_are_not_compared() -> None:
    run = RUN.with_steps(lambda visit, step: replace(step, tail_complete=visit.topology != "tp4" or step.load != 16))
    assert [step.load for step in run.summary().comparisons[0].steps] == [4, 64]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(1.01, 1.2, "higher"), (0.8, 0.99, "lower"), (0.9, 1.1, None), (1.0, 1.2, None)],
)
def test_only_an_interval_that_excludes_one_is_a_claim(low: float, high: float, said: str | None) -> None:
    assert claim(Estimate(value=(low + high) / 2, low=low, high=high, n=3)) == said


def test_per_gpu_and_per_dollar_use_what_is_known_of_both_sides() -> None:
    topologies = [
        {
            "name": name,
            "kind": "external",
            "url": "http://127.0.0.1:1",
            "gpus": {"type": "h100-sxm", "count": count, **price},
        }
        for name, count, price in (("tp4", 4, {"usd_per_hour": 2.0}), ("tp2x2", 2, {"usd_per_hour": 3.0}))
    ]
    servers = {"tp4": TP4, "tp2x2": TP2X2}
    load = {"steps": [4, 16], "hold_s": 4}
    plan = plan_of(servers, topologies=topologies, load=load, compare_unequal=True)
    found = simulate(servers, plan).summary().comparisons[0]
    assert found.throughput_ratio.value is not None
    assert found.throughput_per_gpu_ratio.value == pytest.approx(found.throughput_ratio.value * 2)  # 4 GPUs / 2 GPUs
    # (2 × 3 USD) / (4 × 2 USD) an hour, for that many times the tokens
    assert found.usd_per_million_output_tokens_ratio.value == pytest.approx(6 / 8 / found.throughput_ratio.value)


def test_different_hardware_is_compared_only_where_the_plan_says_so() -> None:
    topologies = [
        {"name": name, "kind": "external", "url": "http://127.0.0.1:1", "gpus": {"type": "h100-sxm", "count": count}}
        for name, count in (("tp4", 4), ("tp2x2", 2))
    ]
    servers = {"tp4": TP4, "tp2x2": TP2X2}
    summary = simulate(servers, plan_of(servers, topologies=topologies, load={"steps": [4], "hold_s": 4})).summary()
    assert summary.comparisons == ()
    (told,) = [finding.message for finding in summary.findings if finding.id == "compare.unequal"]
    assert told.startswith("tp2x2 (2 × h100-sxm) and tp4 (4 × h100-sxm) have different GPUs")


def test_the_advice_says_who_carries_more_and_who_is_sooner_where() -> None:
    sentence = SUMMARY.advice
    assert sentence.startswith("tp2x2 carries 1.2")
    assert "] the tokens of tp4 at 64 users; below about " in sentence
    assert sentence.endswith("] users tp4 finishes requests sooner.")


def test_who_is_sooner_in_an_open_loop_is_told_by_the_median_request() -> None:
    # In an open loop both carry what is offered: throughput says nothing of how long a request takes.
    capacities = {name: topology.capacity for name, topology in SUMMARY.topologies.items()}
    sentence = advice(capacities, SUMMARY.comparisons, LoadMode.OPEN)
    assert sentence.endswith("] requests/s tp4 finishes requests sooner.")
