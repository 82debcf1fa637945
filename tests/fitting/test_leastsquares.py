"""The fit itself, on lines whose slopes are known: how often its intervals hold the truth, and what it holds."""

import math

import numpy as np
import pytest

from loadstair.fitting.factors import ALL_REDUCE, BANDWIDTH, FIXED, PEAK, Factor, Scales
from loadstair.fitting.leastsquares import FloatArray, Residuals, fit_factors

FACTORS = (BANDWIDTH, FIXED)
SLOPES = np.array([[-0.9, 0.1], [-0.8, 0.2], [-0.6, 0.4], [-0.5, 0.5], [-0.3, 0.6], [-0.2, 0.8]])
"""Of the logarithm of six figures, by the logarithm of each factor."""


def line(factors: tuple[Factor, ...], slopes: FloatArray, measured: FloatArray, sd: float) -> Residuals:
    def residuals(scales: Scales) -> FloatArray:
        logs = np.array([math.log(scales[factor.name]) for factor in factors])
        return (measured - slopes @ logs) / sd

    return residuals


def test_an_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(5)
    truth = np.log([0.9, 1.3])
    held = 0
    for _ in range(100):
        measured = SLOPES @ truth + rng.normal(0, 0.02, len(SLOPES))
        for true, one in zip(np.exp(truth), fit_factors(FACTORS, line(FACTORS, SLOPES, measured, 0.02)), strict=True):
            held += one.low <= true <= one.high
    assert 184 <= held <= 200  # 190 of 200; the standard deviation of a binomial with 0.95 is 3


def test_scatter_that_the_figures_do_not_own_to_widens_the_interval() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.1, len(SLOPES))
    quiet, loud = (fit_factors(FACTORS, line(FACTORS, SLOPES, scale * noise, 0.01)) for scale in (0.01, 1.0))
    for still, noisy in zip(quiet, loud, strict=True):
        assert noisy.high / noisy.low > still.high / still.low


def test_of_two_factors_that_do_the_same_one_is_held_at_1() -> None:
    factors = (BANDWIDTH, PEAK)
    slopes = np.array([[-0.8, -0.2]] * 6)
    one, other = fit_factors(factors, line(factors, slopes, np.full(6, 0.8 * 0.2), 0.01))
    assert not one.held
    assert one.value == pytest.approx(math.exp(-0.2), rel=0.01)
    assert (other.held, other.value) == (True, 1.0)
    assert other.low < 1 < other.high


def test_where_nothing_is_told_everything_is_held() -> None:
    factors = (BANDWIDTH, PEAK, FIXED, ALL_REDUCE)
    fitted = fit_factors(factors, line(factors, np.zeros((3, 4)), np.array([0.3, -0.2, 0.1]), 0.1))
    assert [(one.held, one.value) for one in fitted] == [(True, 1.0)] * 4


def test_a_factor_stops_at_what_is_possible_and_says_so() -> None:
    slopes = np.full((6, 1), -1.0)
    (one,) = fit_factors((BANDWIDTH,), line((BANDWIDTH,), slopes, np.full(6, -1.0), 0.01))  # e times as fast
    assert one.value == pytest.approx(BANDWIDTH.high)
    assert one.at_bound
