"""When warm-up may end, from looks at a load while it goes on; and which holds are said to drift."""

from collections.abc import Callable

import numpy as np
import pytest

from loadstair.analysis.step.stationary import drifts, warmed_up
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


def ticks_until_warm(seed: int, **truth: object) -> int:
    seen = looks(100, seed=seed, **truth)  # type: ignore[arg-type]
    return next((count for count in range(len(seen)) if warmed_up(seen[:count])), len(seen))


def test_too_few_looks_never_end_a_warm_up() -> None:
    assert not any(warmed_up(looks(count, seed=1)) for count in range(12))


@pytest.mark.parametrize(("users", "requests_per_tick"), [(1, 0.3), (16, 2.0), (64, 12.0), (256, 25.0)])
def test_a_steady_load_has_warmed_up_a_few_looks_after_it_could_have(users: int, requests_per_tick: float) -> None:
    ticks = [
        ticks_until_warm(seed, in_flight=lambda _: users, requests_per_tick=requests_per_tick, noise=0.4)
        for seed in range(100)
    ]
    # 12 looks, and as many first tokens as there are requests under way.
    earliest = max(12, users / requests_per_tick)
    assert np.mean(ticks) < earliest + 6


@pytest.mark.parametrize("count", [13, 25, 49])
def test_a_queue_that_builds_up_has_not_warmed_up(count: int) -> None:
    # TTFT grows by its starting value each second: at least by half over the looks that tell.
    assert share_warm(count, ttft_s=lambda now: 0.05 * (1 + now)) < 0.05


@pytest.mark.slow
def test_a_queue_that_builds_up_seldom_passes_in_any_of_the_looks_at_it() -> None:
    growing = {"ttft_s": lambda now: 0.05 + 0.3 * now, "noise": 0.4}
    assert np.mean([ticks_until_warm(seed, **growing) < 100 for seed in range(40)]) <= 0.1


def test_requests_that_nobody_has_answered_may_be_a_queue_of_any_length() -> None:
    """512 users on 256 places: half are answered at once, the others when a place is free, after 10 s."""
    queued = {"in_flight": lambda _: 512, "noise": 0.0, "requests_per_tick": 0.0}
    assert share_warm(40, **queued) == 0
    answered = {"in_flight": lambda _: 512, "requests_per_tick": 12.8}  # 51.2 a second are 512 in 10 s, 40 ticks
    assert share_warm(30, **answered) == 0
    assert share_warm(60, **answered) > 0.7


def test_users_that_still_come_have_not_warmed_up() -> None:
    assert share_warm(17, in_flight=lambda now: int(20 + 10 * now)) < 0.05


def test_an_engine_that_still_speeds_up_has_not_warmed_up() -> None:
    assert share_warm(17, tokens_per_s=lambda now: 1000 + 500 * now) < 0.05


def test_what_was_slow_at_the_beginning_does_not_hold_up_for_ever() -> None:
    """The first answers wait for the engine's graphs; after 2 s all is as it stays."""
    slow = {"ttft_s": lambda now: 1.0 if now < 2 else 0.05}
    assert share_warm(16, **slow) < 0.05  # 4 s: some of the last 2.5 s are slow
    assert share_warm(33, **slow) > 0.7  # 8 s: none of the last 5.3 s


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
