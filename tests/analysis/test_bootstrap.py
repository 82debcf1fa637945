"""Intervals are tested by their coverage: on data whose truth is known, a 95 % interval must hold it about 95 times
in 100. With 300 trials the count has a standard error of 1.3 points, so the bounds allow what such a test can tell."""

import numpy as np
import pytest
from scipy import signal, stats

from loadstair.analysis.statistics.bootstrap import (
    Blocked,
    batch_means_draws,
    between_draws,
    block_length,
    blocked,
    distribution,
    enough_for,
    enough_to_bound,
    interval,
    measured,
    proportion,
    rate_measured,
    ratio,
    student_draws,
)
from loadstair.analysis.step.throughput import SLICES, SlicedRate

TRIALS = 300


def autoregressive(
    rng: np.random.Generator, count: int, correlation: float, mean: float, deviation: float
) -> np.ndarray:
    """AR(1) with this mean, standard deviation and lag-one correlation."""
    noise = rng.normal(0, deviation * np.sqrt(1 - correlation**2), count)
    noise[0] = rng.normal(0, deviation)
    return mean + signal.lfilter([1], [1, -correlation], noise)


def requests_of(values: np.ndarray) -> Blocked:
    return blocked(values, np.arange(len(values)), values)


def coverage(holds: list[bool]) -> float:
    return sum(holds) / len(holds)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.9])
def test_a_rate_of_one_window_is_covered_although_its_slices_are_correlated(correlation: float) -> None:
    rng = np.random.default_rng(11)
    holds = []
    for _ in range(TRIALS):
        rate = SlicedRate(per_slice=autoregressive(rng, SLICES, correlation, 1000, 100), n=SLICES)
        estimate = rate_measured({0: rate}, rng).estimate()
        holds.append(estimate.low <= 1000 <= estimate.high)
    assert 0.90 <= coverage(holds) <= 0.98


def test_a_naive_interval_would_not_be_covered() -> None:
    """The coverage test can fail: the textbook interval for independent slices does."""
    rng = np.random.default_rng(12)
    holds = []
    for _ in range(TRIALS):
        series = autoregressive(rng, SLICES, 0.8, 1000, 100)
        half = 1.96 * series.std(ddof=1) / np.sqrt(SLICES)
        holds.append(abs(series.mean() - 1000) <= half)
    assert coverage(holds) < 0.80


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_repeats_that_drift_are_covered_because_they_are_the_unit(repeats: int) -> None:
    rng = np.random.default_rng(15)
    holds = []
    for _ in range(TRIALS):
        means = rng.normal(1000, 50, repeats)
        rates = {r: SlicedRate(per_slice=rng.normal(mean, 20, SLICES), n=SLICES) for r, mean in enumerate(means)}
        estimate = rate_measured(rates, rng).estimate()
        holds.append(estimate.low <= 1000 <= estimate.high)
    assert 0.90 <= coverage(holds) <= 0.98


def test_without_a_drift_the_wider_of_two_intervals_covers_more_than_it_says() -> None:
    """Three repeats that differ by no more than their slices' noise: Student's t alone would hold the truth 95 times in
    100, but it is sometimes narrower than what a single step knows of itself, and then that counts."""
    rng = np.random.default_rng(19)
    holds = []
    for _ in range(TRIALS):
        rates = {r: SlicedRate(per_slice=autoregressive(rng, SLICES, 0.5, 1000, 60), n=SLICES) for r in range(3)}
        estimate = rate_measured(rates, rng).estimate()
        holds.append(estimate.low <= 1000 <= estimate.high)
    assert coverage(holds) >= 0.97


@pytest.mark.parametrize("repeats", [[90.0, 110.0], [90.0, 100.0, 110.0]])
def test_the_interval_over_repeats_is_students_whatever_the_seed(repeats: list[float]) -> None:
    n = len(repeats)
    # mean ± t(0.975, n - 1) · s / √n, in logarithms
    half = stats.t.ppf(0.975, n - 1) * np.log(repeats).std(ddof=1) / np.sqrt(n)
    for seed in range(5):
        draws = between_draws(100, repeats, np.random.default_rng(seed))
        assert draws is not None
        assert np.log(np.array(interval(draws)) / 100) == pytest.approx([-half, half], rel=0.01)


def test_the_interval_of_a_rate_does_not_depend_on_the_seed() -> None:
    series = autoregressive(np.random.default_rng(20), SLICES, 0.5, 1000, 100)
    ends = {tuple(np.round(interval(batch_means_draws(series, np.random.default_rng(seed))), 6)) for seed in range(5)}
    assert len(ends) == 1


def test_draws_of_two_numbers_do_not_belong_together_by_their_order() -> None:
    rng = np.random.default_rng(21)
    first, other = student_draws(5, rng), student_draws(5, rng)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2  # 600 draws: a standard error of 0.04


def test_a_ratio_of_equals_seldom_claims_a_difference() -> None:
    rng = np.random.default_rng(16)
    holds = []
    for _ in range(TRIALS):
        sides = [
            rate_measured({0: SlicedRate(per_slice=autoregressive(rng, SLICES, 0.5, 1000, 80), n=SLICES)}, rng)
            for _ in "ab"
        ]
        compared = ratio(sides[0], sides[1], rng)
        assert compared is not None
        estimate = compared.estimate()
        holds.append(estimate.low <= 1 <= estimate.high)
    assert 0.90 <= coverage(holds) <= 0.99


def test_a_ratio_is_paired_by_repeat_so_a_drift_common_to_both_cancels() -> None:
    rng = np.random.default_rng(17)
    drift = {0: 0.8, 1: 1.0, 2: 1.3}
    steady = {r: SlicedRate(per_slice=rng.normal(1000 * f, 5, SLICES), n=SLICES) for r, f in drift.items()}
    double = {r: SlicedRate(per_slice=rng.normal(2000 * f, 5, SLICES), n=SLICES) for r, f in drift.items()}
    first, other = rate_measured(steady, rng), rate_measured(double, rng)
    compared = ratio(other, first, rng)
    assert compared is not None
    low, high = interval(np.exp(compared.log_draws))
    assert low <= 2 <= high
    assert high / low < 1.05
    own = first.estimate()
    assert own.high / own.low > 1.5  # its own repeats differ by 60 %


def test_a_percentile_is_not_told_from_too_few_samples() -> None:
    rng = np.random.default_rng(1)
    assert [enough_for(q) for q in (0.5, 0.9, 0.99)] == [2, 10, 100]  # one expected beyond it: 1 / (1 - q)
    told = distribution({0: requests_of(np.arange(99.0))}, [0.5, 0.99], rng)
    assert list(told.quantiles) == [0.5]


def test_a_percentile_has_no_interval_where_the_largest_value_may_lie_below_it() -> None:
    assert [enough_to_bound(q) for q in (0.5, 0.9, 0.99)] == [10, 50, 500]  # five expected beyond it: 5 / (1 - q)
    rng = np.random.default_rng(1)
    # Neighbours as unlike as can be: 0, 999, -2, 997, …
    few, enough = (
        distribution({0: requests_of(np.resize([0.0, 1.0], count) * 1000 - np.arange(count))}, [0.99], rng).quantiles[
            0.99
        ]
        for count in (499, 500)
    )
    assert (few.estimate().low, few.estimate().high) == (None, None)
    assert enough.estimate().low is not None
    assert ratio(enough, few, rng) is None


def test_what_requests_are_worth_follows_from_how_alike_neighbours_are() -> None:
    rng = np.random.default_rng(7)
    assert requests_of(rng.normal(0, 1, 2000)).effective == pytest.approx(2000, rel=0.05)
    alike = requests_of(autoregressive(rng, 20_000, 0.6, 0, 1)).effective
    assert alike == pytest.approx(5000, rel=0.1)  # n (1 - 0.6) / (1 + 0.6)
    # Five gaps each, that are the same in one request: 400 independent values, not 2000.
    levels = rng.normal(20, 2, 400)
    gaps = blocked(np.repeat(levels, 5), np.repeat(np.arange(400), 5), levels)
    assert gaps.effective == pytest.approx(400, rel=0.1)


def test_pooled_percentiles_are_those_of_all_values_together() -> None:
    rng = np.random.default_rng(1)
    told = distribution({0: requests_of(np.arange(0.0, 50)), 1: requests_of(np.arange(50.0, 101))}, [0.5], rng)
    assert told.quantiles[0.5].value == 50  # the median of 0 … 100
    assert told.quantiles[0.5].by_repeat == {0: 24.5, 1: 75.0}


def test_thousands_of_distinct_values_are_resampled_as_well_as_few() -> None:
    """The binning of the resampling must not move an interval: coarse values have no bins to lose anything in."""
    rng = np.random.default_rng(2)
    values = rng.lognormal(0, 0.5, 20_000)
    fine = distribution({0: requests_of(values)}, [0.99], np.random.default_rng(3)).quantiles[0.99].estimate()
    coarse = (
        distribution({0: requests_of(values.round(2))}, [0.99], np.random.default_rng(3)).quantiles[0.99].estimate()
    )
    assert fine.low == pytest.approx(coarse.low, rel=0.02)
    assert fine.high == pytest.approx(coarse.high, rel=0.02)


def test_all_gaps_of_a_request_stay_in_one_block() -> None:
    part = blocked(np.arange(6.0), np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 2.0, 1.0]))
    assert part.block[0::2].tolist() == part.block[1::2].tolist()


def test_blocks_are_longer_where_requests_resemble_their_neighbours() -> None:
    rng = np.random.default_rng(4)
    assert block_length(autoregressive(rng, 500, 0.9, 0, 1)) > 3 * block_length(autoregressive(rng, 500, 0.0, 0, 1))


def test_latency_intervals_never_reach_below_zero() -> None:
    rng = np.random.default_rng(5)
    number = measured(value=10.0, by_repeat={0: 2.0, 1: 18.0}, within=np.full(600, 10.0), n=10, rng=rng)
    assert number.estimate().low > 0


def test_a_constant_series_has_an_interval_without_width() -> None:
    rng = np.random.default_rng(6)
    estimate = rate_measured({0: SlicedRate(per_slice=np.full(SLICES, 7.0), n=SLICES)}, rng).estimate()
    assert (estimate.low, estimate.value, estimate.high) == (7, 7, 7)


def test_a_share_of_nothing_is_unknown_and_none_of_many_is_not_exactly_zero() -> None:
    assert proportion(0, 0).value is None
    none = proportion(0, 100)
    assert none.value == 0
    assert none.high == pytest.approx(0.037, abs=0.001)  # z² / (n + z²), z = 1.96
