"""What a calibration says of its own ceilings."""

import pytest

from loadstair.calibrate.calibration import lower_bound
from loadstair.samples.calibration import CalibrationLevel, GroundTruth
from tests.calibrate.values import level

BRACKETED = (level(16), level(64, held=False))


def said(
    levels: tuple[CalibrationLevel, ...] = BRACKETED,
    request_levels: tuple[CalibrationLevel, ...] = BRACKETED,
    *,
    kind: GroundTruth = GroundTruth.NATIVE,
    busy: float = 0.0,
    cores: int = 8,
) -> str:
    return lower_bound(levels, request_levels, kind=kind, busy=busy, cores=cores)


def test_ceilings_between_a_level_that_held_and_one_that_did_not_are_no_lower_bounds() -> None:
    assert said() == ""


@pytest.mark.parametrize(
    "levels",
    [
        (level(16), level(64)),
        (level(16, held=False), level(16), level(64)),
        (level(16), level(64, held=False), level(64)),
    ],
)
def test_where_the_highest_level_held_the_ceiling_may_be_higher_whatever_failed_before(
    levels: tuple[CalibrationLevel, ...],
) -> None:
    assert said(levels) == "the highest level held"
    assert said(BRACKETED, levels) == "the highest level of requests held"


def test_whatever_else_hides_a_higher_ceiling_is_named() -> None:
    assert said(busy=0.25) == "other processes used 25% of the machine when it began"
    assert said(cores=2) == "the worker shared 2 cores with the ground truth"
    assert said(cores=1) == "the worker shared 1 core with the ground truth"
    assert "which sent up to 3,200 chunks/s" in said(kind=GroundTruth.SIMULATED)  # 64 users × 50
