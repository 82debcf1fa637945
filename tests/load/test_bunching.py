"""Made-up exchanges, all times in ms; whether the loop's blindness is seen right is `test_loopwatch`'s."""

from itertools import accumulate

from loadstair.load.bunching import Bunching, bunching
from loadstair.load.exchange import Exchange

MS = 1_000_000
GAPS_MS = [20] * 9


def exchange(*, lag_ms: dict[int, float] | None = None, blind_ms: dict[int, float] | None = None) -> Exchange:
    """Ten arrivals 20 ms apart, read at once except where told."""
    made = Exchange("id")
    for index, time_ms in enumerate(accumulate(GAPS_MS, initial=0)):
        kernel_ns = (1 + time_ms) * MS
        read_ns = kernel_ns + int((lag_ms or {}).get(index, 0.01) * MS)
        made.note_arrival(kernel_ns, read_ns, int((blind_ms or {}).get(index, 0.02) * MS))
    return made


def test_tokens_with_an_arrival_each_are_not_bunched() -> None:
    assert bunching(exchange(blind_ms={4: 15.0}), range(10)) == Bunching(0, 0, 1)


def test_tokens_merged_in_a_read_in_time_are_not_blamed_on_it() -> None:
    assert bunching(exchange(), [0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9]) == Bunching(2, 0, 0)


def test_tokens_in_a_read_before_which_the_loop_was_blind_are_late_though_the_newest_came_just_now() -> None:
    blind = exchange(blind_ms={2: 30.0}, lag_ms={2: 0.0})
    assert bunching(blind, [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]) == Bunching(1, 1, 1)


def test_tokens_in_a_read_that_came_late_out_of_an_idle_loop_are_late() -> None:
    """The process was kept from the core: the loop itself could not know."""
    waited = exchange(lag_ms={2: 12.0})
    assert bunching(waited, [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]) == Bunching(1, 1, 1)


def test_a_read_later_by_less_than_a_tenth_of_the_gap_cannot_have_merged() -> None:
    assert bunching(exchange(blind_ms={2: 1.9}), [0, 1, 2, 2, 3, 4, 5]) == Bunching(1, 0, 0)
    assert bunching(exchange(blind_ms={2: 2.1}), [0, 1, 2, 2, 3, 4, 5]) == Bunching(1, 1, 1)


def test_blindness_is_known_without_kernel_stamps_too() -> None:
    unstamped = Exchange("id")
    for index in range(5):
        unstamped.note_arrival(0, (1 + 20 * index) * MS, 30 * MS if index == 2 else 0)
    assert bunching(unstamped, [0, 1, 2, 2, 3]) == Bunching(1, 1, 1)


def test_a_response_in_one_read_has_no_gap_to_compare_with() -> None:
    assert bunching(exchange(blind_ms={0: 0.6}), [0, 0, 0]) == Bunching(2, 2, 1)  # above the 0.5 ms
    assert bunching(exchange(), [0, 0, 0]) == Bunching(2, 0, 0)
    assert bunching(Exchange("none"), []) == Bunching(0, 0, 0)
