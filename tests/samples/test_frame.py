from dataclasses import replace

import numpy as np
import pytest

from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.readings import telemetry_from_tables
from tests.analysis.synthetic import EPOCH_NS, TP4, plan_of, simulate, table_of

ROWS = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [2], "hold_s": 2})).rows


def arrivals_of(samples: Samples, row: int) -> list[int]:
    return samples.arrivals_ns[samples.offsets[row] : samples.offsets[row + 1]].tolist()


def test_every_request_keeps_its_own_arrivals_over_several_tables() -> None:
    samples = samples_from_tables([table_of(ROWS[:3]), table_of(ROWS[3:])])
    assert len(samples) == len(ROWS)
    for position, row in enumerate(ROWS):
        assert arrivals_of(samples, position) == row.arrivals


def test_times_keep_every_nanosecond_also_beside_absent_ones() -> None:
    rows = (replace(ROWS[0], first_token_ns=EPOCH_NS + 1), replace(ROWS[1], first_token_ns=None))
    first = samples_from_tables([table_of(rows)]).requests["first_token_ns"]
    assert first[0] == EPOCH_NS + 1
    assert first.isna().tolist() == [False, True]


def test_taken_requests_bring_their_arrivals_in_the_order_taken() -> None:
    samples = samples_from_tables([table_of(ROWS)])
    taken = samples.take(np.array([4, 1]))
    assert taken.requests["request_id"].tolist() == [ROWS[4].request_id, ROWS[1].request_id]
    assert [arrivals_of(taken, 0), arrivals_of(taken, 1)] == [ROWS[4].arrivals, ROWS[1].arrivals]


def test_a_request_without_arrivals_is_a_row_of_its_own() -> None:
    rows = (replace(ROWS[0], arrivals=[]), ROWS[1])
    samples = samples_from_tables([table_of(rows)])
    assert samples.offsets.tolist() == [0, 0, len(ROWS[1].arrivals)]


def test_chunk_tokens_are_none_when_no_request_tells_them_and_zero_for_those_that_do_not() -> None:
    assert samples_from_tables([table_of(ROWS)]).chunk_tokens is None
    first = replace(ROWS[0], arrivals=[1, 2], chunk_tokens=[3, 4])
    second = replace(ROWS[1], arrivals=[5], chunk_tokens=None)
    samples = samples_from_tables([table_of((first, second))])
    assert samples.chunk_tokens is not None
    assert samples.chunk_tokens.tolist() == [3, 4, 0]


def test_no_tables_give_empty_frames_with_all_columns() -> None:
    samples = samples_from_tables([])
    assert len(samples) == 0
    assert "dispatch_ns" in samples.requests.columns
    assert telemetry_from_tables([]).of("engine.requests.running") == ()


def test_arrivals_that_are_not_those_of_the_rows_are_refused() -> None:
    samples = samples_from_tables([table_of(ROWS[:2])])
    with pytest.raises(ValueError, match="arrivals of 1 requests for 2 rows"):
        replace(samples, arrivals=samples.arrivals.take(np.array([0])))
