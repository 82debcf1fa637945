"""The Universal Scalability Law on curves of known parameters, and on lines that have no knee."""

import math

import numpy as np
import pytest

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve
from loadstair.analysis.staircase.usl import UslFit, fit_usl
from loadstair.analysis.statistics.bootstrap import DRAWS
from loadstair.analysis.statistics.estimate import Estimate

LOADS = np.array([1, 2, 4, 8, 16, 32, 64, 128], dtype=np.float64)
SIGMA, KAPPA = 0.02, 0.0002
TRUE_PEAK = math.sqrt((1 - SIGMA) / KAPPA)  # 70 users
NOISE = 0.02


def law(loads: np.ndarray, sigma: float = SIGMA, kappa: float = KAPPA) -> np.ndarray:
    return np.asarray(100 * loads / (1 + sigma * (loads - 1) + kappa * loads * (loads - 1)))


def true_knee(sigma: float, kappa: float) -> float:
    """Where the slope of log X over log N falls to log2(1.3), found by looking."""
    fine = np.geomspace(1, 10_000, 200_000)
    slope = np.gradient(np.log(law(fine, sigma, kappa)), np.log(fine))
    return float(fine[int(np.argmax(slope < LOG2_KNEE_GAIN))])


def measured(tokens: np.ndarray, *, seed: int, noise: float = NOISE, loads: np.ndarray = LOADS) -> Curve:
    """As measured with so much relative noise, which the measurement knows of."""
    rng = np.random.default_rng(seed)
    return Curve(
        loads=loads,
        log_tokens=np.log(tokens) + rng.normal(0, noise, len(loads)),
        deviations=rng.normal(0, noise, (DRAWS, len(loads))),
        shared=np.zeros(DRAWS),
        spread=np.full(len(loads), noise),
    )


def fitted(tokens: np.ndarray, **how: float) -> UslFit:
    found = fit_usl(measured(tokens, **how))  # type: ignore[arg-type]
    assert found is not None
    return found


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


def test_planted_parameters_are_recovered() -> None:
    found = fitted(law(LOADS), seed=1, noise=0.001)
    assert found.contention.value == pytest.approx(SIGMA, rel=0.05)
    assert found.coherency.value == pytest.approx(KAPPA, rel=0.05)
    assert found.peak_load.value == pytest.approx(TRUE_PEAK, rel=0.03)
    assert found.peak_tokens_per_s.value == pytest.approx(float(law(np.array([TRUE_PEAK]))[0]), rel=0.01)
    assert found.knee_load.value == pytest.approx(true_knee(SIGMA, KAPPA), rel=0.03)
    assert not found.misfit


@pytest.mark.slow
def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    found = [fitted(law(LOADS), seed=seed) for seed in range(200)]
    knee = true_knee(SIGMA, KAPPA)
    for truth, name in ((SIGMA, "contention"), (KAPPA, "coherency"), (knee, "knee_load"), (TRUE_PEAK, "peak_load")):
        share = np.mean([holds(getattr(one, name), truth) for one in found])
        assert 0.90 <= share <= 0.98, f"{name}: {share}"


def test_a_law_without_coherency_has_a_knee_and_no_peak() -> None:
    found = fitted(law(LOADS, 0.1, 0.0), seed=2)
    assert holds(found.knee_load, true_knee(0.1, 0.0))
    assert found.peak_load.value is None
    assert [finding.id for finding in found.peak_load.findings] == ["usl.no_peak"]


@pytest.mark.parametrize("seed", range(10))
def test_a_line_has_no_knee(seed: int) -> None:
    found = fitted(100 * LOADS, seed=seed)
    assert found.knee_load.value is None
    assert [finding.id for finding in found.knee_load.findings] == ["usl.no_knee"]


def test_a_curve_of_another_shape_is_told_and_widens_the_intervals() -> None:
    # A line up to 16 users and a plateau from there: sharper than the law can bend.
    tokens = 100 * np.minimum(LOADS, 16)
    sharp = fitted(tokens, seed=3, noise=0.005)
    assert sharp.misfit
    assert [finding.id for finding in sharp.findings] == ["usl.misfit"]
    same = fitted(law(LOADS), seed=3, noise=0.005)
    assert not same.misfit
    assert _log_width(sharp.contention) > _log_width(same.contention)


@pytest.mark.slow
def test_noise_alone_is_rarely_taken_for_another_shape() -> None:
    assert np.mean([fitted(law(LOADS), seed=seed).misfit for seed in range(60)]) <= 0.03


def test_three_loads_are_too_few() -> None:
    few = LOADS[:3]
    assert fit_usl(measured(law(few), seed=1, loads=few)) is None


def _log_width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return math.log(max(estimate.high, 1e-9) / max(estimate.low, 1e-9))
