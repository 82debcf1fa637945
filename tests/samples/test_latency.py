"""One definition, written twice: for a record (the live view) and for whole tables (the summary)."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.analysis.step import latency as of_tables
from loadstair.analysis.step.slo import RequestLimits, within_limits
from loadstair.explore.numbers import Limits
from loadstair.explore.tally import Tally
from loadstair.samples import latency as of_records
from loadstair.samples.frame import samples_from_tables
from loadstair.samples.record import RequestSample
from tests.analysis.synthetic import table_of
from tests.samples.records import record

records = st.lists(
    st.builds(
        lambda gaps, tokens: record(*np.cumsum(gaps), output_tokens=tokens),
        st.lists(st.floats(0.01, 500), max_size=6),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=5,
)


@given(rows=records)
@pytest.mark.parametrize(
    ("one", "all_"),
    [
        (of_records.ttft_ns, of_tables.ttft_ms),
        (of_records.e2e_ns, of_tables.e2e_ms),
        (of_records.tpot_ns, of_tables.tpot_ms),
    ],
)
def test_a_record_and_a_table_say_the_same(
    one: Callable[[RequestSample], float | None], all_: Callable[..., np.ndarray], rows: list[RequestSample]
) -> None:
    told = [np.nan if (value := one(row)) is None else value / 1e6 for row in rows]
    table = samples_from_tables([table_of(tuple(rows))])
    np.testing.assert_allclose(all_(table.requests), told, rtol=1e-12)


@given(rows=records)
def test_their_gaps_are_the_same(rows: list[RequestSample]) -> None:
    told = [gap for row in rows for gap in of_records.itl_ns(row)]
    assert of_tables.itl_gaps(samples_from_tables([table_of(tuple(rows))])).gap_ns.tolist() == told


@given(
    rows=records, limit_ms=st.one_of(st.none(), st.floats(0.1, 1000)), tpot_ms=st.one_of(st.none(), st.floats(1, 400))
)
def test_they_call_the_same_requests_good(
    rows: list[RequestSample], limit_ms: float | None, tpot_ms: float | None
) -> None:
    tally = Tally()
    for row in rows:
        tally.add(row, Limits(ttft_ms=limit_ms, tpot_ms=tpot_ms, e2e_ms=None))
    table = samples_from_tables([table_of(tuple(rows))])
    limits = RequestLimits(ttft_ms=limit_ms, tpot_ms=tpot_ms, e2e_ms=None)
    assert within_limits(table.requests, limits).sum() == tally.good
