import json
from dataclasses import replace

import pytest

from loadstair.analysis.staircase.timeline import POINTS_MAX, Timeline, timeline
from loadstair.analysis.summary import summary_json
from loadstair.units import NS_PER_S
from tests.analysis.synthetic import SyntheticRun, two_topologies

RUN = two_topologies(load={"steps": [4, 16], "repeats": 2})
VISIT = RUN.run.visits[0]
START_NS, END_NS = VISIT.steps[0].start_ns, VISIT.steps[-1].tail_end_ns
RUNNING, WAITING, KV = "engine.requests.running", "engine.requests.waiting", "engine.kv.usage"

Row = tuple[int, str, str, str, float]


def every_second(source: str, series: str, value: float) -> list[Row]:
    """Half a second after the visit's start, and on."""
    return [
        (at_ns, source, series, "", value) for at_ns in range(START_NS + NS_PER_S // 2, END_NS + NS_PER_S, NS_PER_S)
    ]


def told(rows: list[Row], run: SyntheticRun = RUN) -> Timeline:
    telemetry = replace(run, telemetry_rows=tuple(rows)).telemetry
    own = tuple(visit for visit in run.run.visits if visit.topology == "tp4")
    found = timeline(own, run.samples, telemetry)
    assert found is not None
    return found


def test_it_is_the_first_visit_with_its_steps_in_seconds_since_it_began() -> None:
    found = told([])
    assert (found.visit, found.repeat, found.repeats) == (0, 0, 2)
    assert [step.load for step in found.steps] == [4, 16]
    assert found.steps[0].start_s == 0
    assert found.steps[0].hold_start_s == 1  # warmup_s
    assert found.steps[0].hold_end_s == 9  # warmup_s + hold_s
    assert found.steps[1].start_s == found.steps[0].tail_end_s


def test_engines_are_summed_and_the_fullest_cache_counts() -> None:
    found = told(
        [
            *every_second("tp4/engine0", RUNNING, 3),
            *every_second("tp4/engine1", RUNNING, 1),
            *every_second("tp4/engine0", KV, 0.2),
            *every_second("tp4/engine1", KV, 0.7),
            *every_second("tp2x2/engine0", RUNNING, 50),
        ]
    )
    assert found.requests_running is not None
    assert found.kv_usage is not None
    assert set(found.requests_running) == {4.0}  # 3 + 1, and no other topology's
    assert set(found.kv_usage) == {0.7}
    assert found.requests_waiting is None


def test_an_interval_without_a_reading_of_every_engine_is_unknown_not_zero() -> None:
    silent = [row for row in every_second("tp4/engine1", RUNNING, 1) if row[0] > START_NS + 6 * NS_PER_S]
    found = told([*every_second("tp4/engine0", RUNNING, 3), *silent])
    assert found.requests_running is not None
    assert found.interval_s == 1.5  # a reading a second, and half as long again
    assert found.requests_running[:4] == (None, None, None, None)  # 4 * 1.5 s = 6 s
    assert set(found.requests_running[4:]) == {4.0}


def test_means_are_taken_inside_an_interval() -> None:
    rows = every_second("tp4/engine0", WAITING, 0)
    rows[0] = (*rows[0][:4], 6.0)
    found = told([*rows, *every_second("tp4/engine0", RUNNING, 1)])
    assert found.requests_waiting is not None
    assert found.requests_waiting[0] == 6.0  # one reading, at 0.5 s
    assert found.requests_waiting[1] == 0.0


@pytest.mark.parametrize("seconds", [1, 100, 100_000])
def test_a_series_is_bounded_however_long_the_visit(seconds: int) -> None:
    *others, last = VISIT.steps
    long = replace(VISIT, steps=(*others, replace(last, tail_end_ns=last.start_ns + seconds * NS_PER_S)))
    found = timeline((long,), RUN.samples, RUN.telemetry)
    assert found is not None
    assert 0 < len(found.time_s) <= POINTS_MAX
    assert len(found.in_flight) == len(found.time_s)
    assert 0 < found.time_s[0] < found.time_s[-1] < found.steps[-1].tail_end_s


def test_in_flight_is_what_the_clients_had_under_way() -> None:
    found = told([])
    for at_s, under_way in zip(found.time_s, found.in_flight, strict=True):
        at_ns = START_NS + round(at_s * NS_PER_S)
        expected = sum(row.visit == 0 and (row.sent_ns or 0) <= at_ns < row.end_ns for row in RUN.rows)
        assert under_way == expected


def test_the_upstreams_are_those_of_this_visit_alone() -> None:
    other = RUN.with_rows(lambda row: replace(row, upstream="127.0.0.1:1") if row.visit else row)
    (first, _) = told([], other).steps
    assert first.upstreams.keys() == {"127.0.0.1:9000", "127.0.0.1:9001"}
    assert sum(first.upstreams.values()) == pytest.approx(1)


def test_a_topology_that_was_never_measured_has_none() -> None:
    assert timeline((), RUN.samples, RUN.telemetry) is None
    assert timeline((replace(VISIT, steps=()),), RUN.samples, RUN.telemetry) is None


def test_the_summary_holds_one_for_each_topology() -> None:
    values = json.loads(json.dumps(summary_json(RUN.summary()), allow_nan=False))["timelines"]
    assert values.keys() == {"tp4", "tp2x2"}
    assert values["tp4"]["steps"][0]["load"] == 4
    assert values["tp4"]["requests_running"] is None
