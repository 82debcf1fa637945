"""The slope's interval is judged by its coverage, on series of known slope and known autocorrelation."""

import numpy as np
import pytest

from loadstair.analysis.statistics.trend import Slope, pooled, slope

WINDOWS = 24
TIME = np.arange(WINDOWS, dtype=np.float64)
SERIES = 1000


def noise(correlation: float, rng: np.random.Generator) -> np.ndarray:
    """AR(1) with unit innovations, stationary from its first value on; a random walk for a correlation of 1."""
    innovations = rng.normal(size=WINDOWS)
    values = np.empty(WINDOWS)
    values[0] = innovations[0] / (np.sqrt(1 - correlation**2) if correlation < 1 else 1)
    for at in range(1, WINDOWS):
        values[at] = correlation * values[at - 1] + innovations[at]
    return values


def found(values: np.ndarray) -> Slope:
    one = slope(TIME, values)
    assert one is not None
    return one


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.94), (0.3, 0.93), (0.6, 0.91), (0.9, 0.86)])
def test_the_interval_covers_the_true_slope(correlation: float, least: float) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(SERIES):
        one = found(10 + 0.5 * TIME + noise(correlation, rng)).estimate()
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= 0.5 <= one.high
    assert least <= covered / SERIES <= 0.99


def test_a_level_series_is_taken_for_a_slope_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(6)
    wrong = sum(found(noise(0.0, rng)).p_value < 0.05 for _ in range(SERIES))
    assert wrong / SERIES <= 0.05


def test_at_the_level_of_twenty_series_even_a_random_walk_is_seldom_a_drift() -> None:
    rng = np.random.default_rng(7)
    wrong = sum(found(noise(1.0, rng)).p_value < 0.05 / 20 for _ in range(SERIES))
    assert wrong / SERIES <= 0.06


def test_a_slope_far_above_the_noise_is_found_nearly_always() -> None:
    rng = np.random.default_rng(8)
    assert sum(found(TIME + noise(0.3, rng)).p_value < 0.05 / 20 for _ in range(100)) >= 90


def test_a_straight_line_has_no_doubt_and_a_constant_no_slope() -> None:
    line = found(3 + 0.1 * TIME)
    assert (line.value, line.error, line.p_value) == (pytest.approx(0.1), 0, 0)
    constant = found(np.full(WINDOWS, 80e9))
    assert (constant.value, constant.p_value) == (0, 1)


def test_windows_without_a_value_are_left_out_and_too_few_tell_nothing() -> None:
    values = 2 * TIME
    values[12:] = np.nan
    assert found(values).windows == 12
    values[11] = np.nan
    assert slope(TIME, values) is None


def test_repeats_that_disagree_widen_the_error() -> None:
    one = Slope(value=1.0, error=0.01, degrees=22, windows=24, level=5)
    other = Slope(value=3.0, error=0.01, degrees=22, windows=24, level=5)
    both = pooled([one, other])
    assert (both.value, both.degrees) == (2, 1)
    assert both.error == pytest.approx(1)  # the standard deviation of 1 and 3 is √2, over √2 repeats
    assert pooled([one, one]).error == pytest.approx(0.01 / np.sqrt(2))
