from collections.abc import Callable, Iterator

from loadstair.clock import OFFSET_READINGS_MAX, realtime_minus_monotonic_ns

MS = 1_000_000
OFFSET = 7_000 * MS


def clocks(pauses_ns: Iterator[int]) -> tuple[Callable[[], int], Callable[[], int]]:
    """The wall clock and the monotonic one, OFFSET apart. Before each reading of the wall clock the process is kept
    from running for the next of the pauses."""
    time_ns = 0

    def monotonic_ns() -> int:
        return time_ns

    def realtime_ns() -> int:
        nonlocal time_ns
        time_ns += next(pauses_ns)
        return time_ns + OFFSET

    return realtime_ns, monotonic_ns


def test_a_pause_between_the_readings_is_no_change_of_the_offset() -> None:
    assert realtime_minus_monotonic_ns(*clocks(iter([50 * MS, 20 * MS, 0]))) == OFFSET


def test_on_a_machine_that_pauses_at_every_reading_the_closest_one_counts() -> None:
    pauses_ms = [50, 20, 2, 30, 40]
    assert len(pauses_ms) == OFFSET_READINGS_MAX
    # The wall clock was read at the end of the pause, the middle of the two others is half of it before.
    assert realtime_minus_monotonic_ns(*clocks(ms * MS for ms in pauses_ms)) == OFFSET + 1 * MS  # 2 ms / 2
