"""A step's gaps are kept one by one where they are few, in fine cells where they are many: the numbers must agree."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from loadstair.analysis.statistics.bootstrap import Blocked, distribution
from loadstair.analysis.step import gaps
from loadstair.analysis.step.gaps import RELATIVE_ERROR, gaps_ms, histogram_ms, itl_blocked
from loadstair.analysis.step.slo import QUANTILES
from loadstair.samples.arrivals import Arrivals, Gathering
from loadstair.samples.frame import Samples, samples_from_tables
from tests.analysis.synthetic import EPOCH_NS, TP4, plan_of, simulate, table_of

RUN = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [32], "hold_s": 20}))


@pytest.fixture
def always_cells() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps, "EXACT_MAX", 0)
        yield


def arrivals_of(gap_ns: np.ndarray) -> Arrivals:
    """One request's."""
    stamps = EPOCH_NS + np.concatenate([[0], np.cumsum(gap_ns)])
    gathering = Gathering(len(stamps))
    gathering.add(pa.array([stamps], pa.list_(pa.int64())), pa.nulls(1, pa.list_(pa.int32())))
    return gathering.result()


def both(samples: Samples) -> tuple[Blocked, Blocked]:
    exact = itl_blocked(samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps, "EXACT_MAX", 0)
        return exact, itl_blocked(samples)


def test_cells_change_no_number_by_more_than_their_width() -> None:
    exact, cells = both(samples_from_tables([table_of(RUN.rows)]))
    assert exact.weight is None
    assert cells.weight is not None
    assert (cells.n, cells.blocks) == (exact.n, exact.blocks)
    assert cells.mean == pytest.approx(exact.mean, rel=1e-12)
    one, other = (
        distribution({0: part}, list(QUANTILES.values()), np.random.default_rng(1)) for part in (exact, cells)
    )
    for q, number in one.quantiles.items():
        told, again = number.estimate(), other.quantiles[q].estimate()
        assert (again.value, again.low, again.high) == pytest.approx((told.value, told.low, told.high), rel=1e-3)


@pytest.mark.parametrize("scale_ms", [1e-3, 0.1, 7.0, 40.0, 3000.0])
@pytest.mark.usefixtures("always_cells")
def test_a_percentile_from_cells_is_off_by_less_than_a_cells_width(scale_ms: float) -> None:
    gap_ns = (np.random.default_rng(4).lognormal(0, 0.5, 20_000) * scale_ms * 1e6).astype(np.int64)
    told = gaps_ms(arrivals_of(gap_ns))
    for q in (0.01, 0.5, 0.9, 0.99, 0.999):
        assert told.quantile(q) == pytest.approx(np.quantile(gap_ns / 1e6, q), rel=RELATIVE_ERROR)


@pytest.mark.usefixtures("always_cells")
def test_equal_gaps_stay_exact_and_gaps_of_0_stay_0() -> None:
    values_ms, weight = histogram_ms(arrivals_of(np.array([0, 12_345_678, 0, 12_345_678, 12_345_678])))
    assert values_ms.tolist() == [0, 12.345678]
    assert weight.tolist() == [2, 3]


def test_a_clock_that_was_stepped_back_gives_a_gap_of_0() -> None:
    values_ms, weight = histogram_ms(arrivals_of(np.array([5_000_000, -1_000_000])))
    assert values_ms.tolist() == [0, 5]
    assert weight.tolist() == [1, 1]


def test_without_gaps_there_are_none() -> None:
    nothing = itl_blocked(samples_from_tables([]))
    assert (nothing.n, nothing.beyond(1.0)) == (0, 0)


@pytest.mark.usefixtures("always_cells")
def test_requests_of_one_token_have_no_cells() -> None:
    assert gaps_ms(arrivals_of(np.zeros(0, np.int64))).n == 0


def test_what_lies_beyond_a_limit_is_counted_alike() -> None:
    exact, cells = both(samples_from_tables([table_of(RUN.rows)]))
    for limit_ms in (20.0, 30.0, 35.0):
        assert cells.beyond(limit_ms) == pytest.approx(exact.beyond(limit_ms), rel=0.01, abs=3)
