from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.step.throughput import (
    SLICES,
    Window,
    completion_rate,
    in_flight_mean,
    in_flight_over,
    token_rate,
)
from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.record import Outcome, Phase
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.analysis.synthetic import EPOCH_NS, table_of
from tests.analysis.test_latency import of, request

SECOND = Window(start_ns=EPOCH_NS, end_ns=EPOCH_NS + NS_PER_S)


def tokens_by_tenth(samples: Samples) -> list[float]:
    """Of the second."""
    return (token_rate(samples, SECOND, slices=10).per_slice / 10).tolist()


def test_tokens_count_when_they_arrive_inside_the_window_whatever_the_request_is() -> None:
    samples = of(
        request(-900, [-100, 100, 200], phase=Phase.WARMUP),  # 2 inside
        request(500, [600, 900, 1100], phase=Phase.HOLD),  # 2 inside
        request(500, [700], outcome=Outcome.TIMEOUT, output_tokens=None),  # 1 inside
    )
    assert token_rate(samples, SECOND).mean == pytest.approx(5)  # (2 + 2 + 1) / 1 s


def test_the_window_holds_its_start_and_not_its_end() -> None:
    assert token_rate(of(request(-10, [0, 1000])), SECOND).n == 1


def test_chunks_of_several_tokens_share_what_usage_counts() -> None:
    samples = of(request(0, [100, 1100], output_tokens=10))
    assert token_rate(samples, SECOND).mean == pytest.approx(5)  # 10 tokens / 2 chunks


def test_tokens_known_for_each_chunk_are_taken_as_they_are() -> None:
    samples = of(request(0, [100, 1100], output_tokens=10, chunk_tokens=[9, 1]))
    assert token_rate(samples, SECOND).mean == pytest.approx(9)


def test_tokens_whose_text_came_in_several_chunks_are_shared_among_them() -> None:
    samples = of(request(0, [100, 200, 300], output_tokens=2))
    assert tokens_by_tenth(samples) == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3, 0, 0, 0, 0, 0, 0])


def test_a_chunk_known_to_hold_no_whole_token_counts_none() -> None:
    said, silent = request(0, [100, 200], output_tokens=3, chunk_tokens=[0, 3]), request(0, [300], output_tokens=None)
    assert tokens_by_tenth(of(said, silent)) == [0, 0, 3, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("counted", [None, 0])
def test_without_a_count_a_chunk_is_a_token(counted: int | None) -> None:
    samples = of(request(0, [100, 200], output_tokens=counted))
    assert tokens_by_tenth(samples) == [0, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_completions_are_successes_that_end_inside_whenever_they_began() -> None:
    samples = of(
        request(-500, [100], phase=Phase.WARMUP),
        request(100, [200], outcome=Outcome.TRUNCATED),
        request(900, [1100]),
        request(100, [400]),
    )
    assert completion_rate(samples, None, SECOND).mean == pytest.approx(2)
    assert completion_rate(samples, np.array([True, True, True, False]), SECOND).mean == pytest.approx(1)


def test_requests_in_flight_are_averaged_over_time() -> None:
    samples = of(request(-500, [500]), request(250, [500]), request(900, [2000]))
    assert in_flight_mean(samples, SECOND) == pytest.approx(0.85)  # 0.5 + 0.25 + 0.1


def test_no_arrivals_are_a_rate_of_zero() -> None:
    row = replace(request(0, []), output_tokens=None)
    assert token_rate(samples_from_tables([table_of((row,))]), SECOND).mean == 0
    assert token_rate(samples_from_tables([]), SECOND).mean == 0


def test_a_window_must_have_a_length() -> None:
    with pytest.raises(ValueError, match="window"):
        Window(start_ns=EPOCH_NS, end_ns=EPOCH_NS - NS_PER_MS)


def test_requests_in_flight_are_averaged_over_each_slice_too() -> None:
    samples = of(request(-500, [-100]), request(-500, [500]), request(250, [500]), request(900, [2000]))
    over = in_flight_over(samples, SECOND.edges_ns(SLICES))
    assert len(over) == SLICES == 64
    assert over[:16] == pytest.approx(np.ones(16))
    assert over[16:32] == pytest.approx(2 * np.ones(16))  # 250 to 500 ms
    assert over[32:57] == pytest.approx(np.zeros(25))
    assert over[57:] == pytest.approx([0.4, 1, 1, 1, 1, 1, 1])  # from 900 ms on
    assert over.mean() == pytest.approx(in_flight_mean(samples, SECOND))
