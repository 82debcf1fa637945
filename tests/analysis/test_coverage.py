"""Latencies and ratios of known truth: how often a nominal 95 % interval holds it. With 200 trials the count has a
standard error of 1.5 points, with 100 of 2.2; the seeds are fixed. `test_bootstrap.py` has more of what is quick to
try."""

import numpy as np
import pytest
from scipy import stats

from loadstair.analysis.statistics.bootstrap import distribution, rate_measured, ratio
from loadstair.analysis.step.throughput import SLICES, SlicedRate
from tests.analysis.test_bootstrap import autoregressive, coverage, requests_of

TRIALS = 200
RATIO_TRIALS = 100


def latencies(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    """Lognormal around a median of 50 ms, each like the one before."""
    return 50 * np.exp(0.5 * autoregressive(rng, count, correlation, 0, 1))


TRUE_MEAN = 50 * np.exp(0.125)
"""exp(σ² / 2) over the median."""
TRUE_QUANTILES = {q: 50 * np.exp(0.5 * stats.norm.ppf(q)) for q in (0.5, 0.9, 0.99)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("requests", "correlation", "bounded"),
    [
        (300, 0.6, (0.5, 0.9)),
        (300, 0.9, (0.5,)),
        (1000, 0.9, (0.5, 0.9)),
        (1500, 0.0, (0.5, 0.9, 0.99)),
        (3000, 0.6, (0.5, 0.9, 0.99)),
    ],
)
def test_mean_and_percentiles_of_requests_that_resemble_each_other_are_covered(
    requests: int, correlation: float, bounded: tuple[float, ...]
) -> None:
    """`bounded`: the percentiles that so many requests are enough for, five independent ones beyond each.

    n (1 - ρ) / (1 + ρ) are 75 for 300 at 0.6, 53 for 1000 at 0.9, 750 for 3000 at 0.6.
    """
    rng = np.random.default_rng(13)
    mean_holds: list[bool] = []
    holds: dict[float, list[bool]] = {q: [] for q in bounded}
    for _ in range(TRIALS):
        told = distribution({0: requests_of(latencies(rng, requests, correlation))}, bounded, rng)
        assert told.mean is not None
        mean = told.mean.estimate()
        mean_holds.append(mean.low <= TRUE_MEAN <= mean.high)
        for q, number in told.quantiles.items():
            if number.bounded:
                estimate = number.estimate()
                holds[q].append(estimate.low <= TRUE_QUANTILES[q] <= estimate.high)
    assert 0.90 <= coverage(mean_holds) <= 0.98
    for q in bounded:
        assert len(holds[q]) > TRIALS / 2
        assert 0.90 <= coverage(holds[q]) <= 0.98, q


def test_correlated_requests_seldom_claim_a_percentile_that_they_do_not_know() -> None:
    """1000 requests at 0.9 are worth 53, a p99 needs 500: without this rule one interval in five would be wrong."""
    rng = np.random.default_rng(14)
    wrong = 0
    for _ in range(TRIALS):
        number = distribution({0: requests_of(latencies(rng, 1000, 0.9))}, [0.99], rng).quantiles[0.99]
        estimate = number.estimate()
        wrong += estimate.low is not None and not estimate.low <= TRUE_QUANTILES[0.99] <= estimate.high
    assert wrong / TRIALS <= 0.05


@pytest.mark.slow
def test_a_p99_is_covered_as_soon_as_it_has_an_interval() -> None:
    rng = np.random.default_rng(14)
    truth = np.exp(2.3263478740408408)  # the lognormal's p99: exp of the normal's
    holds = []
    for _ in range(TRIALS):
        told = distribution({0: requests_of(rng.lognormal(0, 1, 500))}, [0.99], rng)
        estimate = told.quantiles[0.99].estimate()
        if estimate.low is not None:
            holds.append(estimate.low <= truth <= estimate.high)
    assert len(holds) > 0.9 * TRIALS  # one in twenty seems to have a correlation
    assert 0.90 <= coverage(holds) <= 0.98


def arms(rng: np.random.Generator, repeats: int, drift: float) -> tuple[dict[int, float], dict[int, float]]:
    """Factors on all that a repeat of each of two topologies measures: 10 % common to both, `drift` each its own."""
    common = rng.normal(0, 0.1, repeats)
    first, other = (np.exp(common + rng.normal(0, drift, repeats)) for _ in "ab")
    return dict(enumerate(first)), dict(enumerate(other))


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [2, 4])
def test_ratios_between_repeats_that_drift_are_covered(repeats: int) -> None:
    """The other is 1.2 times the first in all it does; slices and requests have an autocorrelation of 0.5."""
    rng = np.random.default_rng(18)
    holds: dict[str, list[bool]] = {name: [] for name in ("rate", "mean", "p50", "p90")}
    for _ in range(RATIO_TRIALS):
        sides = []
        for factors, scale in zip(arms(rng, repeats, 0.05), (1.0, 1.2), strict=True):
            rates = {
                r: SlicedRate(per_slice=autoregressive(rng, SLICES, 0.5, 1000 * scale * f, 60), n=SLICES)
                for r, f in factors.items()
            }
            values = {
                r: requests_of(scale * f * 50 * np.exp(autoregressive(rng, 400, 0.5, 0, 0.15)))
                for r, f in factors.items()
            }
            told = distribution(values, [0.5, 0.9], rng)
            assert told.mean is not None
            rate = rate_measured(rates, rng)
            sides.append({"rate": rate, "mean": told.mean, "p50": told.quantiles[0.5], "p90": told.quantiles[0.9]})
        first, other = sides
        for name, own in holds.items():
            compared = ratio(other[name], first[name], rng)
            assert compared is not None
            estimate = compared.estimate()
            own.append(estimate.low <= 1.2 <= estimate.high)
    for name, own in holds.items():
        assert 0.90 <= coverage(own) <= 0.99, name  # 100 trials tell no closer
