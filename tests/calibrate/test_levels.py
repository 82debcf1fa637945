"""Which level comes next."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from loadstair.calibrate.levels import next_users
from loadstair.samples.calibration import CalibrationLevel
from tests.calibrate.values import level

LADDER = (16, 64, 256)


def climbed(
    measured: Callable[[int, int], CalibrationLevel], *, thorough: bool = True, ladder: tuple[int, ...] = LADDER
) -> list[CalibrationLevel]:
    """`measured(users, attempt)` is the machine."""
    levels: list[CalibrationLevel] = []
    while (users := next_users(ladder, levels, thorough=thorough)) is not None:
        levels.append(measured(users, sum(one.users == users for one in levels)))
    return levels


def users_of(levels: list[CalibrationLevel]) -> list[int]:
    return [one.users for one in levels]


def test_the_ladder_is_climbed_to_its_end_where_all_holds() -> None:
    assert users_of(climbed(lambda users, _: level(users))) == [16, 64, 256]


def test_a_failed_level_is_tried_twice_and_then_one_between() -> None:
    levels = climbed(lambda users, _: level(users, held=users < 200))
    assert users_of(levels) == [16, 64, 256, 256, 160]  # (64 + 256) / 2


def test_a_level_that_got_far_too_little_is_not_tried_twice() -> None:
    levels = climbed(lambda users, _: level(users, held=users < 200, achieved=1.0 if users < 200 else 0.8))
    assert users_of(levels) == [16, 64, 256, 160]


def test_a_level_that_was_only_disturbed_does_not_end_the_climb() -> None:
    levels = climbed(lambda users, attempt: level(users, held=users != 64 or attempt == 1))
    assert users_of(levels) == [16, 64, 64, 256]


def test_below_the_ladder_users_are_halved_until_a_level_holds() -> None:
    levels = climbed(lambda users, _: level(users, held=users <= 5, achieved=0.5))
    assert users_of(levels) == [16, 8, 4]


def test_a_quick_climb_ends_at_the_first_failure() -> None:
    assert users_of(climbed(lambda users, _: level(users, held=users < 64), thorough=False)) == [16, 64]


@given(st.integers(min_value=0, max_value=3000), st.booleans())
def test_the_climb_ends_and_its_best_level_is_the_last_that_a_machine_holds(limit: int, thorough: bool) -> None:
    levels = climbed(lambda users, _: level(users, held=users <= limit), thorough=thorough, ladder=(8, 64, 512, 2048))
    held = [one.users for one in levels if one.held]
    assert len(levels) <= 2 * 4 + 2 + 2 * 4  # each of the ladder twice, one between twice, halved down from 8 twice
    assert max(held, default=0) <= limit
    if limit >= 1:
        assert held
        assert limit >= 2048 or any(one.users > limit for one in levels)
