"""Stamps kept as gaps of four bytes must come back as they were, whatever the selection."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.samples import arrivals
from loadstair.samples.arrivals import Arrivals, Gathering, positions

EPOCH_NS = 1_800_000_000_000_000_000

stamps = st.lists(st.integers(EPOCH_NS, EPOCH_NS + 20_000_000_000), max_size=6)
"""In any order, as a stepped clock has them, and up to 20 s apart: an int32 of ns holds 2.1 s."""
requests = st.lists(st.tuples(stamps, st.booleans()), max_size=8)


def gathered(rows: list[list[int] | None], tokens: list[list[int] | None] | None = None) -> Arrivals:
    gathering = Gathering(sum(len(row or ()) for row in rows))
    for row, told in zip(rows, tokens or [None] * len(rows), strict=True):  # a batch for each
        gathering.add(pa.array([row], pa.list_(pa.int64())), pa.array([told], pa.list_(pa.int32())))
    return gathering.result()


def by_request(of: Arrivals) -> list[list[int]]:
    return [part.tolist() for part in np.split(of.times_ns(), np.cumsum(of.chunks)[:-1])] if len(of) else []


@given(rows=requests, piece=st.integers(1, 20))
def test_every_stamp_comes_back_in_pieces_of_any_size(rows: list[tuple[list[int], bool]], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrivals, "PIECE", piece)
        whole = gathered([row for row, _ in rows])
        chosen = np.flatnonzero([wanted for _, wanted in rows])[::-1]
        assert by_request(whole) == [row for row, _ in rows]
        assert by_request(whole.take(chosen)) == [rows[i][0] for i in chosen]
        gaps = [piece.gaps() for piece in whole.pieces()]
        assert [gap for own, _ in gaps for gap in own] == [gap for row, _ in rows for gap in np.diff(row)]


def test_first_and_last_are_those_of_each_request_and_0_without_any() -> None:
    of = gathered([[EPOCH_NS + 3, EPOCH_NS + 9], [], [EPOCH_NS]])
    assert of.first_ns.tolist() == [EPOCH_NS + 3, 0, EPOCH_NS]
    assert of.last_ns.tolist() == [EPOCH_NS + 9, 0, EPOCH_NS]
    assert of.gap_counts().tolist() == [1, 0, 0]


def test_a_list_that_is_absent_has_no_chunks() -> None:
    assert gathered([None, [EPOCH_NS]]).chunks.tolist() == [0, 1]


@pytest.mark.parametrize("most", [3, 300, 70_000])
def test_tokens_of_chunks_come_back_however_many_there_are(most: int) -> None:
    of = gathered([[1, 2], [3, 4], [5]], [[1, 2], None, [most]])
    told = of.all_tokens()
    assert told is not None
    assert told.tolist() == [1, 2, 0, 0, most]
    chosen = of.take(np.array([2, 0])).all_tokens()
    assert chosen is not None
    assert chosen.tolist() == [most, 1, 2]


def test_tokens_that_do_not_match_the_chunks_say_nothing() -> None:
    told = gathered([[1, 2], [3]], [[7], [8]]).all_tokens()
    assert told is not None
    assert told.tolist() == [0, 0, 8]


def test_what_a_damaged_file_brought_is_taken_back() -> None:
    gathering = Gathering(10)
    first, other = (pa.array([row], pa.list_(pa.int64())) for row in ([1, 2], [5, 5_000_000_000]))
    one_each, none = pa.array([[9, 9]], pa.list_(pa.int32())), pa.array([None], pa.list_(pa.int32()))
    gathering.add(first, none)
    mark = gathering.mark()
    gathering.add(other, one_each)
    gathering.back_to(mark)
    gathering.add(first, none)
    of = gathering.result()
    assert by_request(of) == [[1, 2], [1, 2]]
    assert of.long_at.tolist() == []
    told = of.all_tokens()
    assert told is not None
    assert told.tolist() == [0, 0, 0, 0]


def test_positions_are_those_of_runs_one_after_the_other() -> None:
    assert positions(np.array([5, 0, 2]), np.array([2, 0, 1])).tolist() == [5, 6, 2]
