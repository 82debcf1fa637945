"""A full batch on curves of known truth, and what the knee makes of several laws."""

from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN
from loadstair.analysis.staircase.full_batch import FullBatchFit, fit_full_batch
from loadstair.analysis.staircase.knee import Fits, fit_laws
from loadstair.analysis.staircase.usl import fit_usl
from tests.analysis.test_usl import KAPPA, LOADS, SIGMA, holds, law, measured, true_knee

TRIALS = 30
STEPS = np.array([2, 4, 8, 16, 32, 64, 128, 192], dtype=np.float64)
FULL = 48
TOKENS_OF_A_BATCH = np.array([184, 357, 675, 1216, 2015, 2582, 2585, 2585], dtype=np.float64)
"""At `STEPS` users, of an engine that slows as its batch grows and takes 48 requests at once."""


def full_batch(full: float, ratio: float) -> np.ndarray:
    """Tokens per second at `STEPS` users; a step takes 1 + ratio × batch."""
    inside = np.minimum(STEPS, full)
    return np.asarray(100 * inside / (1 + ratio * inside))


def fitted(tokens: np.ndarray, *, seed: int, noise: float = 0.02) -> FullBatchFit:
    found = fit_full_batch(measured(tokens, seed=seed, noise=noise, loads=STEPS))
    assert found is not None
    return found


def test_a_planted_batch_and_its_contention_are_recovered() -> None:
    found = fitted(full_batch(40, 0.01), seed=1, noise=0.001)
    assert found.full_load.value == pytest.approx(40, rel=0.01)
    assert found.knee_load.value == pytest.approx(40, rel=0.01)
    assert found.contention.value == pytest.approx(0.01 / 1.01, rel=0.03)
    assert not found.misfit


@pytest.mark.slow
@pytest.mark.parametrize(("full", "ratio"), [(24, 0.002), (40, 0.01), (100, 0.005)])
def test_a_planted_batch_lies_in_its_interval(full: float, ratio: float) -> None:
    held = [holds(fitted(full_batch(full, ratio), seed=seed).knee_load, full) for seed in range(TRIALS)]
    assert np.mean(held) >= 0.85  # 30 trials have a standard error of 4 points; bench/laws.py has more


def test_the_knee_lies_below_the_full_batch_where_contention_is_stronger() -> None:
    found = fitted(full_batch(100, 0.05), seed=1, noise=0.005)
    assert holds(found.knee_load, (1 / LOG2_KNEE_GAIN - 1) / 0.05)  # where the slope 1 / (1 + rN) is log2(1.3)
    assert holds(found.full_load, 100)


@pytest.mark.parametrize("seed", range(5))
def test_a_line_has_neither_knee_nor_full_batch_and_says_so(seed: int) -> None:
    found = fitted(100 * STEPS, seed=seed)
    assert found.knee_load.value is None
    assert "no knee inside the range" in found.knee_load.findings[0].message
    assert "no full batch inside the range" in found.full_load.findings[0].message


def test_the_law_without_a_full_batch_is_told_its_own_knee() -> None:
    tokens = law(STEPS, 0.03, 0.0)
    assert all(holds(fitted(tokens, seed=seed).knee_load, true_knee(0.03, 0.0)) for seed in range(5))


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_the_knee_of_a_server_with_a_full_batch_is_found(noise: float) -> None:
    held = []
    for seed in range(20):
        fits = fit_laws(measured(TOKENS_OF_A_BATCH, seed=seed, noise=noise, loads=STEPS))
        assert "full_batch" in fits.believed()
        held.append(holds(fits.knee(), FULL))
    assert sum(held) >= 16


def test_four_loads_are_too_few_for_a_full_batch() -> None:
    assert fit_full_batch(measured(TOKENS_OF_A_BATCH[:4], seed=1, loads=STEPS[:4])) is None


def test_laws_that_follow_the_steps_alike_are_all_spanned_and_named() -> None:
    fits = fit_laws(measured(law(LOADS, 0.03, 0.0), seed=0))
    assert set(fits.believed()) == {"usl", "full_batch"}
    knee = fits.knee()
    assert [finding.id for finding in knee.findings] == ["knee.laws_alike"]
    for fit in fits.believed().values():
        assert holds(knee, fit.knee_load.low or 0)
        assert holds(knee, fit.knee_load.high or 0)


def test_the_best_law_gives_the_value() -> None:
    fits = fit_laws(measured(law(LOADS), seed=1))
    assert (fits.best(), list(fits.believed())) == ("usl", ["usl"])
    assert fits.usl is not None
    assert fits.knee() == fits.usl.knee_load
    assert holds(fits.knee(), true_knee(SIGMA, KAPPA))


def test_there_is_no_knee_where_a_law_that_follows_the_steps_alike_has_none() -> None:
    curve = measured(TOKENS_OF_A_BATCH, seed=1, noise=0.005, loads=STEPS)
    bent, straight = fit_full_batch(curve), fit_usl(measured(100 * STEPS, seed=1, noise=0.005, loads=STEPS))
    assert bent is not None
    assert straight is not None
    knee = Fits(full_batch=bent, usl=replace(straight, bic=bent.bic + 1)).knee()
    assert knee.value is None
    assert [finding.id for finding in knee.findings] == ["usl.no_knee", "knee.laws_alike"]
    assert Fits(full_batch=bent, usl=replace(straight, bic=bent.bic + 10)).knee() == bent.knee_load


def test_laws_that_agree_on_having_no_knee_say_so_once() -> None:
    knee = fit_laws(measured(100 * LOADS**0.8, seed=1)).knee()
    assert knee.value is None
    assert [finding.message.split(":")[0] for finding in knee.findings] == ["no knee inside the range"]


def test_without_any_law_it_says_how_many_loads_it_takes() -> None:
    assert Fits().knee().findings[0].id == "usl.few_loads"
