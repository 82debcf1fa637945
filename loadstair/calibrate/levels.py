"""Which level comes next. Pure."""

from collections.abc import Sequence

from loadstair.samples.calibration import CalibrationLevel

USERS_MIN = 1
OVERLOADED_SHARE = 0.95
"""Of the offered chunks per second: below it, a level did not fail by accident."""


def next_users(ladder: Sequence[int], levels: Sequence[CalibrationLevel], *, thorough: bool) -> int | None:
    """The users of the next level; None when the ceiling is found.

    Up the ladder until a level does not hold. Where not even the first holds: half of its users, again and again.
    `thorough`: a level of the ladder that just failed is tried again (other processes disturb one level, rarely two),
    and at the end one is tried between the last that held and the first that did not.
    """
    held = [level.users for level in levels if level.held]
    failed = [level.users for level in levels if level.users not in held]
    if thorough and levels and failed.count(levels[-1].users) == 1 and _perhaps_disturbed(levels[-1], ladder):
        return levels[-1].users
    if not failed:
        return next((users for users in ladder if users not in held), None)
    lowest_bad = min(failed)
    below = [users for users in held if users < lowest_bad]
    if not below:
        return lowest_bad // 2 if lowest_bad > USERS_MIN else None
    if not thorough:
        return None
    between = (max(below) + lowest_bad) // 2
    refined = any(users not in ladder for users in (*held, *failed))
    return None if refined or between == max(below) else between


def _perhaps_disturbed(failed: CalibrationLevel, ladder: Sequence[int]) -> bool:
    offered = failed.offered_chunks_per_s
    return failed.users in ladder and (offered is None or failed.chunks_per_s >= OVERLOADED_SHARE * offered)
