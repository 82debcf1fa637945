"""Looks at a load while it goes on: when warm-up may end, and when a hold has told enough."""

from collections.abc import Callable

import numpy as np
import pytest

from loadstair.analysis.bootstrap import batch_means
from loadstair.analysis.precision import precise_enough, rates
from loadstair.analysis.stationary import drifts, warmed_up
from loadstair.samples.look import Look

TICK_S = 0.25


def looks(
    count: int,
    *,
    seed: int,
    ttft_s: Callable[[float], float] = lambda _: 0.05,
    in_flight: Callable[[float], int] = lambda _: 64,
    tokens_per_s: Callable[[float], float] = lambda _: 3000.0,
    requests_per_tick: float = 12.0,
    noise: float = 0.2,
) -> list[Look]:
    """What one sees of a load whose truth is a function of the time."""
    rng = np.random.default_rng(seed)
    tokens, first_tokens, ttft_sum = 0, 0, 0.0
    made = []
    for tick in range(count):
        now = tick * TICK_S
        made.append(
            Look(
                time_s=now,
                in_flight=in_flight(now),
                tokens=tokens,
                first_tokens=first_tokens,
                ttft_s_sum=ttft_sum,
            )
        )
        tokens += rng.poisson(tokens_per_s(now) * TICK_S)
        came = rng.poisson(requests_per_tick)
        first_tokens += came
        ttft_sum += float(sum(ttft_s(now) * np.exp(rng.normal(0, noise, came))))
    return made


def share_warm(count: int, **truth: object) -> float:
    return float(np.mean([warmed_up(looks(count, seed=seed, **truth)) for seed in range(200)]))  # type: ignore[arg-type]


def test_too_few_looks_never_end_a_warm_up() -> None:
    assert not any(warmed_up(looks(count, seed=1)) for count in range(9))


@pytest.mark.parametrize("requests_per_tick", [0.3, 3.0, 30.0])
def test_a_steady_load_has_warmed_up_within_a_few_looks(requests_per_tick: float) -> None:
    # Two of three tests at 5 % can fail by chance (in flight has no noise here): 10 % at most. The next look may pass.
    assert share_warm(9, requests_per_tick=requests_per_tick) > 0.9


@pytest.mark.parametrize("count", [9, 17, 33])
def test_a_queue_that_builds_up_has_not_warmed_up(count: int) -> None:
    # TTFT grows by its starting value each second: at least by half from one half of the looks to the other.
    assert share_warm(count, ttft_s=lambda now: 0.05 * (1 + now)) < 0.05


def test_users_that_still_come_have_not_warmed_up() -> None:
    assert share_warm(17, in_flight=lambda now: int(20 + 10 * now)) < 0.05


def test_an_engine_that_still_speeds_up_has_not_warmed_up() -> None:
    assert share_warm(17, tokens_per_s=lambda now: 1000 + 500 * now) < 0.05


def test_what_was_slow_at_the_beginning_does_not_hold_up_for_ever() -> None:
    """The first answers wait for the engine's graphs; after 2 s all is as it stays."""
    slow = {"ttft_s": lambda now: 1.0 if now < 2 else 0.05}
    assert share_warm(13, **slow) < 0.05  # 3 s: half of the last nine looks are slow
    assert share_warm(33, **slow) > 0.85  # 8 s: the newer half has none of them


def drifting(change: float, *, seed: int, correlation: float, spread: float = 0.1, windows: int = 64) -> bool:
    """Whether a series that changes by this share over the hold, with AR(1) noise, is said to drift."""
    rng = np.random.default_rng(seed)
    noise = np.zeros(windows)
    noise[0] = rng.normal()
    for i in range(1, windows):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1 - correlation**2) * rng.normal()
    values = 100 * (1 + change * (np.arange(windows) / (windows - 1) - 0.5) + spread * noise)
    return bool(drifts({"TTFT": values}))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_noise_without_a_drift_is_rarely_called_one(correlation: float) -> None:
    assert np.mean([drifting(0.0, seed=seed, correlation=correlation) for seed in range(1000)]) <= 0.01


def test_a_ttft_that_doubles_over_the_hold_is_called_a_drift() -> None:
    # From two thirds of its mean to four thirds.
    assert np.mean([drifting(2 / 3, seed=seed, correlation=0.3) for seed in range(500)]) > 0.95


def test_a_drift_that_does_not_matter_is_none() -> None:
    assert not any(drifting(0.2, seed=seed, correlation=0.0, spread=0.001) for seed in range(100))


def test_a_hold_may_end_when_its_rate_is_known_well_enough() -> None:
    # Poisson: 3000 tokens/s are known to 1.96 / sqrt(3000 t): 3 % after 1.4 s, 1 % after 13 s, 0.3 % after 142 s.
    made = [looks(1 + 4 * seconds, seed=7) for seconds in (3, 60)]
    assert not precise_enough(rates(made[0]), 0.03)  # 12 slices are too few to tell
    assert precise_enough(rates(made[1]), 0.03)
    assert not precise_enough(rates(made[1]), 0.003)


def test_a_load_without_tokens_is_never_precise() -> None:
    assert not precise_enough(rates(looks(100, seed=1, tokens_per_s=lambda _: 0.0)), 0.5)


def test_rates_are_read_off_at_equal_distances() -> None:
    uneven = [
        Look(time_s=time_s, in_flight=1, tokens=int(100 * time_s), first_tokens=0, ttft_s_sum=0.0)
        for time_s in (0.0, 0.1, 0.9, 1.0, 2.0)
    ]
    assert rates(uneven) == pytest.approx([100.0] * 4)


def test_ending_a_hold_by_its_precision_keeps_most_of_the_coverage() -> None:
    """AR(1) rates around 100: a hold of 24 slices at least, 96 at most, for 3 %."""
    covered = ended_early = 0
    runs = 200
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        noise, series = 0.0, []
        for _ in range(96):
            noise = 0.5 * noise + rng.normal(0, 8)
            series.append(100 + noise)
        count = next((n for n in range(24, 96, 4) if precise_enough(np.array(series[:n]), 0.03)), 96)
        ended_early += count < 96
        found = batch_means(np.array(series[:count]))
        covered += abs(found.mean - 100) <= found.half_width
    assert ended_early > runs / 4
    assert covered / runs >= 0.88
