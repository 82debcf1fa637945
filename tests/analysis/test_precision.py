"""When a hold has shown enough: the promise of its precision is judged by coverage, on AR(1) rates of known mean."""

import numpy as np
import pytest

from loadstair.analysis.statistics.bootstrap import batch_means
from loadstair.analysis.step.precision import precise_enough, rates
from loadstair.samples.look import Look

MEAN = 1000.0
WANTED = 0.03


def autoregressive(count: int, correlation: float, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Rates around MEAN; `spread` is their coefficient of variation."""
    innovations = rng.normal(0, np.sqrt(1 - correlation**2), count)
    series = np.empty(count)
    series[0] = rng.normal()
    for at in range(1, count):
        series[at] = correlation * series[at - 1] + innovations[at]
    return MEAN * (1 + spread * series)


def hold(correlation: float, spread: float, seed: int, *, least: int, most: int) -> np.ndarray:
    """The slices of a hold that ends as soon as it is precise enough."""
    series = autoregressive(most, correlation, spread, np.random.default_rng(seed))
    length = least
    while length < most and not precise_enough(series[:length], WANTED):
        length += 1 + length // 20
    return series[:length]


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_a_hold_that_ends_by_its_precision_keeps_what_its_interval_promises(correlation: float) -> None:
    holds = [hold(correlation, 0.1, seed, least=80, most=2400) for seed in range(150)]
    found = [batch_means(series) for series in holds]
    # Of a nominal 95 %; 150 trials tell it to within 2 points.
    assert np.mean([abs(one.mean - MEAN) <= one.half_width for one in found]) >= 0.90
    # The slices after the last look at it may have widened the interval a little.
    assert np.mean([one.half_width <= 1.1 * WANTED * one.mean for one in found]) >= 0.95


def test_noisier_rates_take_longer() -> None:
    quiet, loud = (np.mean([len(hold(0.3, s, seed, least=20, most=2400)) for seed in range(30)]) for s in (0.05, 0.15))
    assert loud > 3 * quiet  # the error falls with the root of the time: three times the noise, nine times the time


def test_fewer_than_twenty_slices_tell_nothing() -> None:
    # A slice for each of 16 batches, and once more with a quarter more.
    assert not precise_enough(np.full(19, MEAN) + np.arange(19) % 2, WANTED)
    assert precise_enough(np.full(20, MEAN) + np.arange(20) % 2, WANTED)


def test_one_narrow_interval_is_not_believed() -> None:
    rng = np.random.default_rng(1)
    series = np.concatenate([rng.normal(MEAN, 500, 16), np.full(4, MEAN)])
    assert not precise_enough(series, WANTED)


def looks(seconds: int, tokens_per_s: float, seed: int = 7) -> list[Look]:
    """One look each 0.25 s at Poisson arrivals."""
    rng = np.random.default_rng(seed)
    tokens = np.concatenate([[0], np.cumsum(rng.poisson(tokens_per_s / 4, 4 * seconds))])
    return [
        Look(time_s=tick / 4, in_flight=64, tokens=int(total), first_tokens=0, ttft_s_sum=0.0)
        for tick, total in enumerate(tokens)
    ]


def test_a_hold_may_end_when_its_rate_is_known_well_enough() -> None:
    # Poisson: 3000 tokens/s are known to 1.96 / sqrt(3000 t): 3 % after 1.4 s, 1 % after 13 s, 0.3 % after 142 s.
    made = [looks(seconds, 3000) for seconds in (3, 60)]
    assert not precise_enough(rates(made[0]), 0.03)  # 12 slices are too few to tell
    assert precise_enough(rates(made[1]), 0.03)
    assert not precise_enough(rates(made[1]), 0.003)


def test_a_load_without_tokens_is_never_precise() -> None:
    assert not precise_enough(rates(looks(25, 0.0)), 0.5)


def test_rates_are_read_off_at_equal_distances() -> None:
    uneven = [
        Look(time_s=time_s, in_flight=1, tokens=int(100 * time_s), first_tokens=0, ttft_s_sum=0.0)
        for time_s in (0.0, 0.1, 0.9, 1.0, 2.0)
    ]
    assert rates(uneven) == pytest.approx([100.0] * 4)
