from collections import Counter

import pytest

from loadstair.forecast.balancer import Policy, picker


def picks(policy: Policy, open_requests: list[int], times: int) -> list[int]:
    one = picker(policy, len(open_requests), seed=1)
    return [one.pick(open_requests) for _ in range(times)]


def test_round_robin_takes_turns_whatever_is_under_way() -> None:
    assert picks("round_robin", [9, 0, 0], 6) == [0, 1, 2, 0, 1, 2]


def test_least_connections_takes_the_engine_with_the_fewest() -> None:
    assert picks("least_conn", [3, 1, 2], 3) == [1, 1, 1]


def test_engines_with_equally_few_connections_take_turns() -> None:
    assert picks("least_conn", [1, 4, 1], 4) == [0, 2, 0, 2]


def test_of_two_drawn_engines_the_fuller_one_is_never_taken() -> None:
    chosen = Counter(picks("random_two", [0, 5, 9], 300))
    assert chosen[2] == 0
    assert chosen[0] == pytest.approx(200, abs=40)  # in two of three pairs it is the emptier one


def test_requests_without_a_session_are_hashed_to_any_engine() -> None:
    chosen = Counter(picks("hash", [0, 9], 400))
    assert chosen[0] == pytest.approx(200, abs=50)
