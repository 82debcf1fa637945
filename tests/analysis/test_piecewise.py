"""A bend on curves of known truth, on lines that have none, and against the Universal Scalability Law."""

import numpy as np
import pytest

from loadstair.analysis.staircase.knee import Fits
from loadstair.analysis.staircase.piecewise import PiecewiseFit, fit_piecewise
from loadstair.analysis.staircase.usl import fit_usl
from tests.analysis.test_full_batch import FULL, STEPS, TOKENS_OF_A_BATCH
from tests.analysis.test_usl import KAPPA, LOADS, SIGMA, holds, law, measured, true_knee

TRIALS = 60


def bent(knee: float, above: float = 0.05) -> np.ndarray:
    """Nearly linear up to the knee, with this slope from there on."""
    return np.asarray(100 * np.where(knee >= LOADS, LOADS**0.95, knee**0.95 * (LOADS / knee) ** above))


def fitted(tokens: np.ndarray, *, seed: int, noise: float = 0.02) -> PiecewiseFit:
    found = fit_piecewise(measured(tokens, seed=seed, noise=noise))
    assert found is not None
    return found


def test_a_planted_bend_and_its_slopes_are_recovered() -> None:
    found = fitted(bent(24), seed=1, noise=0.001)
    assert found.knee_load.value == pytest.approx(24, rel=0.02)
    assert found.slope_below.value == pytest.approx(0.95, abs=0.01)
    assert found.slope_above.value == pytest.approx(0.05, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("knee", "above"), [(10, 0.0), (16, 0.1), (40, -0.2)])
def test_a_planted_bend_lies_in_its_interval(knee: float, above: float) -> None:
    held = [holds(fitted(bent(knee, above), seed=seed).knee_load, knee) for seed in range(TRIALS)]
    assert 0.88 <= np.mean(held) <= 1.0  # 60 trials have a standard error of 2.8 points


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 0.8, 0.2])
def test_a_straight_line_has_no_knee_and_says_so(slope: float) -> None:
    knees = [fitted(100 * LOADS**slope, seed=seed).knee_load for seed in range(TRIALS)]
    assert all(knee.value is None for knee in knees)
    assert all("no knee inside the range" in knee.findings[0].message for knee in knees)


def test_a_bend_after_which_more_load_is_still_worth_it_is_no_knee() -> None:
    assert fitted(bent(16, above=0.6), seed=1).knee_load.value is None


def test_the_fit_that_follows_the_steps_better_has_the_smaller_bic_and_its_knee_is_true() -> None:
    truths = [(bent(24), 24.0, True), (law(LOADS), true_knee(SIGMA, KAPPA), False)]
    for tokens, truth, is_bent in truths:
        held = []
        for seed in range(20):
            curve = measured(tokens, seed=seed)
            piecewise, usl = fit_piecewise(curve), fit_usl(curve)
            assert piecewise is not None
            assert usl is not None
            assert (piecewise.bic < usl.bic) == is_bent
            held.append(holds((piecewise if is_bent else usl).knee_load, truth))
        assert sum(held) >= 17


def test_a_bend_upwards_is_taken_for_a_straight_line() -> None:
    found = fitted(bent(16, above=1.4), seed=1)
    assert found.slope_below.value == found.slope_above.value


def test_four_loads_are_too_few_for_a_bend() -> None:
    curve = measured(bent(4)[:4], seed=1, loads=LOADS[:4])
    assert fit_piecewise(curve) is None


@pytest.mark.parametrize("seed", range(5))
def test_where_the_steps_follow_no_law_the_knee_spans_all(seed: int) -> None:
    curve = measured(TOKENS_OF_A_BATCH, seed=seed, noise=0.005, loads=STEPS)
    fits = Fits(usl=fit_usl(curve), piecewise=fit_piecewise(curve))  # neither is this engine's law
    knee = fits.knee()
    assert [finding.id for finding in knee.findings] == ["knee.no_law"]
    assert holds(knee, FULL)
    for fit in fits.believed().values():
        assert holds(knee, fit.knee_load.value or 0)


def test_a_bend_is_placed_finer_than_any_grid() -> None:
    found = fitted(bent(40, above=-0.2), seed=1, noise=0.0001)
    assert holds(found.knee_load, 40)
    assert found.knee_load.value == pytest.approx(40, rel=0.001)
