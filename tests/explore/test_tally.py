import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.explore.figures import Part, numbers
from loadstair.explore.numbers import Limits
from loadstair.explore.tally import Tally
from loadstair.samples.record import Outcome, RequestSample
from tests.samples.records import record

NO_LIMITS = Limits(ttft_ms=None, tpot_ms=None, e2e_ms=None)
WITHIN = 0.01


def tally(*records: RequestSample, limits: Limits = NO_LIMITS) -> Tally:
    whole = Tally()
    for each in records:
        whole.add(each, limits)
    return whole


def test_latencies_follow_the_glossary() -> None:
    shown = numbers([Part(tally(record(100, 120, 150)), 10.0)], NO_LIMITS)
    assert shown.ttft_ms.p50 == pytest.approx(100, rel=WITHIN)
    assert (shown.itl_ms.n, shown.itl_ms.mean) == (2, 25)  # (20 + 30) / 2
    assert shown.itl_ms.p99 == pytest.approx(30, rel=WITHIN)
    assert shown.tpot_ms.mean == 25  # (150 - 100) / (3 - 1)
    assert shown.e2e_ms.max == 150


def test_gaps_count_when_their_answer_has_ended_also_those_before_the_span() -> None:
    before = tally(record(100, 120))
    after = tally(record(100, 120), record(100, 5_100, 60_100))
    shown = numbers([Part(after.since(before), 10.0)], NO_LIMITS)
    assert (shown.itl_ms.n, shown.itl_ms.mean) == (2, 30_000)  # (5,000 + 55,000) / 2, in a span of 10 s


def test_tpot_divides_by_the_tokens_that_the_server_counts() -> None:
    assert tally(record(100, 150, output_tokens=6)).tpot.mean_ns == 10e6  # (150 - 100) ms / (6 - 1)


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.OK])
def test_requests_that_failed_or_were_killed_have_tokens_but_no_latency(outcome: Outcome) -> None:
    counted = tally(record(100, 120, outcome=outcome))
    assert counted.tokens == 2
    assert [counted.ttft.n, counted.itl.n, counted.tpot.n, counted.e2e.n] == [0, 0, 0, 0]
    assert (counted.ok, counted.failed, counted.killed) == ((0, 0, 1) if outcome is Outcome.KILLED else (0, 1, 0))


def test_tokens_are_those_of_the_chunks_else_of_the_usage_else_one_a_chunk() -> None:
    assert tally(record(1, 2, output_tokens=5, chunk_tokens=[2, 2])).tokens == 4
    assert tally(record(1, 2, output_tokens=5)).tokens == 5
    assert tally(record(1, 2, output_tokens=0)).tokens == 2
    assert tally(record(output_tokens=9, outcome=Outcome.TRUNCATED)).tokens == 0  # no text ever came


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        (Limits(ttft_ms=100, tpot_ms=25, e2e_ms=150), 1),  # at the limit is within it
        (Limits(ttft_ms=99, tpot_ms=None, e2e_ms=None), 0),
        (Limits(ttft_ms=None, tpot_ms=24.9, e2e_ms=None), 0),
        (Limits(ttft_ms=None, tpot_ms=None, e2e_ms=149), 0),
    ],
)
def test_good_are_those_within_every_limit(limits: Limits, good: int) -> None:
    counted = tally(record(100, 120, 150), limits=limits)
    assert counted.good == good
    assert numbers([Part(counted, 2.0)], limits).goodput_rps == good / 2


def test_a_single_token_has_no_tpot_to_fail_and_no_text_no_ttft_to_meet() -> None:
    assert tally(record(100), limits=Limits(ttft_ms=None, tpot_ms=1, e2e_ms=None)).good == 1
    assert tally(record(), limits=Limits(ttft_ms=1e9, tpot_ms=None, e2e_ms=None)).good == 0


def test_without_limits_there_is_no_goodput() -> None:
    assert numbers([Part(tally(record(1, 2)), 2.0)], NO_LIMITS).goodput_rps is None


def test_rates_of_workers_add_up_each_over_its_own_span() -> None:
    shown = numbers([Part(tally(*[record(1, 2)] * 6), 2.0), Part(tally(*[record(1, 2)] * 6), 3.0)], NO_LIMITS)
    assert shown.requests_per_s == 5  # 6 / 2 + 6 / 3
    assert shown.output_tokens_per_s == 10
    assert shown.span_s == 3.0


def test_a_span_too_short_has_no_rate() -> None:
    shown = numbers([Part(tally(record(1, 2)), 0.1)], NO_LIMITS)
    assert (shown.requests_per_s, shown.output_tokens_per_s) == (None, None)
    assert shown.ok == 1


some_records = st.lists(
    st.builds(
        record,
        st.floats(1, 500),
        st.floats(501, 900),
        outcome=st.sampled_from(list(Outcome)),
        output_tokens=st.integers(0, 9),
    ),
    max_size=12,
)
LIMITS = Limits(ttft_ms=250, tpot_ms=100, e2e_ms=None)


@given(some_records, some_records)
def test_merging_equals_counting_everything_in_one_place(here: list[RequestSample], there: list[RequestSample]) -> None:
    merged = tally(*here, limits=LIMITS)
    merged.merge(tally(*there, limits=LIMITS))
    assert merged.packed() == tally(*here, *there, limits=LIMITS).packed()


@given(some_records, some_records)
def test_the_difference_to_an_older_state_is_what_came_since(
    before: list[RequestSample], after: list[RequestSample]
) -> None:
    since = tally(*before, *after, limits=LIMITS).since(tally(*before, limits=LIMITS))
    alone = tally(*after, limits=LIMITS)
    assert (since.ok, since.failed, since.killed, since.good, since.tokens) == (
        (alone.ok, alone.failed, alone.killed, alone.good, alone.tokens)
    )
    assert (since.ttft.n, since.ttft.mean_ns) == (alone.ttft.n, alone.ttft.mean_ns)


@given(some_records)
def test_it_arrives_as_it_was_sent(records: list[RequestSample]) -> None:
    packed = tally(*records).packed()
    assert Tally.unpacked(packed).packed() == packed
