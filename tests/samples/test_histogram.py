import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.samples.histogram import HIGHEST_NS, LOWEST_NS, RELATIVE_ERROR, LogHistogram

MS = 1_000_000
durations = st.lists(st.integers(0, 2 * HIGHEST_NS), max_size=60)
inside = st.lists(st.integers(LOWEST_NS, HIGHEST_NS - 1), min_size=1, max_size=60)


def recorded(*parts: list[int]) -> LogHistogram:
    histogram = LogHistogram()
    for part in parts:
        histogram.record(part)
    return histogram


@given(st.lists(durations, max_size=5))
def test_merging_equals_recording_everything_in_one_place(parts: list[list[int]]) -> None:
    merged = LogHistogram()
    for part in parts:
        merged.merge(recorded(part))
    assert merged.to_bytes() == recorded(*parts).to_bytes()


@given(inside, st.floats(0, 1))
def test_a_percentile_is_within_one_percent_of_the_nearest_rank(values: list[int], quantile: float) -> None:
    rank = max(1, math.ceil(quantile * len(values) - 1e-9))
    true_ns = sorted(values)[rank - 1]
    (told_ns,) = recorded(values).percentiles_ns([quantile])
    assert told_ns is not None
    assert abs(told_ns - true_ns) <= RELATIVE_ERROR * true_ns * 1.000001


@given(durations)
def test_nothing_is_dropped_and_mean_and_maximum_are_exact(values: list[int]) -> None:
    histogram = recorded(values)
    assert histogram.n == len(values)
    assert histogram.max_ns == max(values, default=None)
    assert histogram.mean_ns == (sum(values) / len(values) if values else None)


@given(durations, durations)
def test_what_came_since_an_older_state_is_what_was_recorded_since(before: list[int], after: list[int]) -> None:
    difference = recorded(before, after).since(recorded(before))
    alone = recorded(after)
    quantiles = [0.1, 0.5, 0.99]
    assert (difference.n, difference.mean_ns) == (alone.n, alone.mean_ns)
    for told, true in zip(difference.percentiles_ns(quantiles), alone.percentiles_ns(quantiles), strict=True):
        if true is not None and true < HIGHEST_NS:
            assert told == pytest.approx(true, rel=2 * RELATIVE_ERROR)


@given(durations)
def test_its_bytes_hold_all_of_it(values: list[int]) -> None:
    packed = recorded(values).to_bytes()
    assert LogHistogram.from_bytes(packed).to_bytes() == packed


def test_too_short_and_too_long_values_are_counted_at_the_ends() -> None:
    histogram = recorded([0, -5, LOWEST_NS - 1, 5 * MS, 2 * HIGHEST_NS])
    assert histogram.n == 5
    assert histogram.percentiles_ns([0.6, 1.0]) == [0.0, 2 * HIGHEST_NS]  # rank 3 of 5 is below 10 µs
    assert histogram.percentiles_ns([0.8])[0] == pytest.approx(5 * MS, rel=RELATIVE_ERROR)


def test_an_empty_one_knows_nothing() -> None:
    histogram = LogHistogram()
    assert (histogram.n, histogram.mean_ns, histogram.max_ns) == (0, None, None)
    assert histogram.percentiles_ns([0.5]) == [None]


def test_a_day_of_tokens_travels_in_less_than_two_kilobytes() -> None:
    assert len(recorded([round(20 * MS * 1.001**step) for step in range(3000)] * 100).to_bytes()) < 2048


@pytest.mark.parametrize("packed", [b"", b"no histogram", zlib.compress(b"x" * 100), zlib.compress(bytes(10**6))])
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="histogram"):
        LogHistogram.from_bytes(packed)
