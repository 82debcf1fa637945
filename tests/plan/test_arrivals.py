"""The schedule of an open loop: its distribution, its seed, and a trace's pace."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadstair.plan.arrivals import Arrivals, Due, Trace, schedule
from loadstair.plan.model import ArrivalKind
from loadstair.plan.trace import SPAN_S_MIN
from loadstair.units import NS_PER_S

N = 4000


def first(
    arrivals: Arrivals, n: int = N, *, rate: float = 50.0, seed: int = 1, repeat: int = 0, step: int = 0
) -> list[Due]:
    return list(islice(schedule(arrivals, rate=rate, seed=seed, repeat=repeat, step=step), n))


def gaps_s(due: list[Due]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.diff([one.offset_ns / NS_PER_S for one in due])


def test_constant_arrivals_are_evenly_apart_and_do_not_drift() -> None:
    due = first(Arrivals(kind=ArrivalKind.CONSTANT), rate=3.0)
    assert due[0].offset_ns == 0
    assert all(abs(one.offset_ns - one.place * NS_PER_S / 3) <= 1 for one in due)


def test_poisson_arrivals_have_exponential_gaps() -> None:
    gaps = gaps_s(first(Arrivals(kind=ArrivalKind.POISSON)))
    assert stats.kstest(gaps, stats.expon(scale=1 / 50).cdf).pvalue > 0.01


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_gamma_arrivals_keep_the_rate_and_have_gaps_of_that_shape(burstiness: float) -> None:
    gaps = gaps_s(first(Arrivals(kind=ArrivalKind.GAMMA, burstiness=burstiness)))
    assert stats.kstest(gaps, stats.gamma(burstiness, scale=1 / (50 * burstiness)).cdf).pvalue > 0.01
    assert stats.kstest(gaps, stats.expon(scale=1 / 50).cdf).pvalue < 1e-6


def test_the_schedule_depends_on_seed_repeat_and_step_alone() -> None:
    poisson = Arrivals(kind=ArrivalKind.POISSON)
    one = first(poisson, 20)
    assert first(poisson, 20) == one
    for other in ({"seed": 2}, {"repeat": 1}, {"step": 1}):
        assert first(poisson, 20, **other)[0] != one[0]


@given(kind=st.sampled_from([ArrivalKind.CONSTANT, ArrivalKind.POISSON]), workers=st.integers(1, 7))
def test_the_workers_shares_make_the_whole_schedule(kind: ArrivalKind, workers: int) -> None:
    arrivals = Arrivals(kind=kind)
    shares = [
        list(islice(islice(schedule(arrivals, rate=9.0, seed=3, repeat=0, step=0), rank, None, workers), 5))
        for rank in range(workers)
    ]
    assert sorted(due for share in shares for due in share) == first(arrivals, 5 * workers, rate=9.0, seed=3)


TRACE = Trace(offsets_s=(0.0, 1.0, 4.0), input_tokens=(10, 20, 30), output_tokens=None)


def test_a_trace_is_replayed_at_the_steps_rate_with_its_own_rhythm_and_lengths() -> None:
    assert TRACE.rate == pytest.approx(3 / 6)
    due = first(Arrivals(kind=ArrivalKind.TRACE, trace=TRACE), 7, rate=1.0)
    assert [one.offset_ns / NS_PER_S for one in due] == pytest.approx([0, 0.5, 2, 3, 3.5, 5, 6])
    assert [one.input_tokens for one in due] == [10, 20, 30, 10, 20, 30, 10]
    assert {one.output_tokens for one in due} == {None}


def lasts(offsets: list[float]) -> bool:
    """As long as a trace must be to be read."""
    return offsets[-1] - offsets[0] >= SPAN_S_MIN


@given(
    offsets=st.lists(st.floats(0, 1e4), min_size=2, max_size=20).map(sorted).filter(lasts),
    rate=st.floats(0.01, 1000),
)
def test_a_trace_has_the_steps_rate_on_average_and_never_goes_back(offsets: list[float], rate: float) -> None:
    trace = Trace(offsets_s=tuple(one - offsets[0] for one in offsets), input_tokens=None, output_tokens=None)
    due = first(Arrivals(kind=ArrivalKind.TRACE, trace=trace), 3 * len(offsets) + 1, rate=rate)
    assert all(later.offset_ns >= earlier.offset_ns for earlier, later in pairwise(due))
    assert due[-1].offset_ns / NS_PER_S == pytest.approx(3 * len(offsets) / rate, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "arrivals",
    [Arrivals(kind=ArrivalKind.GAMMA, burstiness=0.5), Arrivals(kind=ArrivalKind.TRACE, trace=TRACE)],
)
def test_arrivals_are_the_same_after_a_way_through_a_file(arrivals: Arrivals) -> None:
    assert Arrivals.from_dict(arrivals.to_dict()) == arrivals
