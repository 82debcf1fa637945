"""Stamps of a clock that is ahead and drifts are moved back onto the master's."""

from dataclasses import replace

import numpy as np

from loadstair.samples.clocks import STAMPS, offsets_ns, on_masters_clock
from loadstair.samples.frame import samples_from_tables
from loadstair.samples.record import RequestSample
from loadstair.samples.runrecord import ClockReading, VisitRecord
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.analysis.synthetic import EPOCH_NS, TP4, plan_of, simulate, table_of

RUN = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [2], "hold_s": 2}))
(VISIT,) = RUN.run.visits
AHEAD_NS = 3_600 * NS_PER_S
DRIFT = 1e-4
AT_NS = (EPOCH_NS, EPOCH_NS + 100 * NS_PER_S)


def worker_ns(master_ns: int) -> int:
    """What a clock shows that was an hour ahead at EPOCH_NS and runs 100 ppm fast."""
    return master_ns + AHEAD_NS + round(DRIFT * (master_ns - EPOCH_NS))


def reading(at_ns: int, worker: str = "worker-0") -> ClockReading:
    return ClockReading(worker=worker, offset_ns=worker_ns(at_ns) - at_ns, uncertainty_ns=1, at_ns=at_ns)


def visit_with(*clocks: ClockReading) -> VisitRecord:
    return replace(VISIT, steps=tuple(replace(step, clocks=clocks) for step in VISIT.steps))


def by_the_workers_clock(row: RequestSample) -> RequestSample:
    """All its stamps by the offset when it was dispatched."""
    ahead_ns = worker_ns(row.dispatch_ns) - row.dispatch_ns
    moved = {name: None if (at := getattr(row, name)) is None else at + ahead_ns for name in STAMPS}
    return replace(row, arrivals=[at + ahead_ns for at in row.arrivals], worker="worker-0", **moved)


def test_between_two_readings_the_offset_is_linear_beyond_them_it_stays() -> None:
    readings = [reading(AT_NS[1]), reading(AT_NS[0])]
    half = EPOCH_NS + 50 * NS_PER_S
    stamps = np.array([worker_ns(half), worker_ns(AT_NS[0]) - NS_PER_S, worker_ns(AT_NS[1]) + NS_PER_S])
    assert offsets_ns(readings, stamps).tolist() == [
        AHEAD_NS + 5 * NS_PER_MS,  # 100 ppm of 50 s
        AHEAD_NS,
        AHEAD_NS + 10 * NS_PER_MS,
    ]


def test_planted_offset_and_drift_are_taken_out_of_every_stamp_and_arrival() -> None:
    other = replace(RUN.rows[0], worker="worker-1")
    rows = (other, *(by_the_workers_clock(row) for row in RUN.rows[1:]))
    samples = on_masters_clock(samples_from_tables([table_of(rows)]), [visit_with(*map(reading, AT_NS))])
    truth = samples_from_tables([table_of(RUN.rows)])
    for name in STAMPS:
        given, wanted = samples.requests[name], truth.requests[name]
        assert given.isna().equals(wanted.isna())
        assert ((given - wanted).abs().fillna(0) <= 2).all()  # ns: a float's rounding
    assert np.abs(samples.arrivals_ns - truth.arrivals_ns).max() <= 2
    assert samples.requests["dispatch_ns"][0] == other.dispatch_ns  # a worker without readings


def test_durations_within_a_request_stay_to_the_nanosecond() -> None:
    rows = tuple(by_the_workers_clock(row) for row in RUN.rows)
    samples = on_masters_clock(samples_from_tables([table_of(rows)]), [visit_with(*map(reading, AT_NS))])
    for position, row in enumerate(RUN.rows):
        told = samples.requests.iloc[position]
        assert told["end_ns"] - told["sent_ns"] == row.end_ns - (row.sent_ns or 0)


def test_a_window_holds_the_requests_that_it_holds_by_the_masters_clock() -> None:
    rows = tuple(by_the_workers_clock(row) for row in RUN.rows)
    samples = on_masters_clock(samples_from_tables([table_of(rows)]), [visit_with(*map(reading, AT_NS))])
    (step,) = VISIT.steps
    inside = samples.requests["dispatch_ns"].between(step.hold_start_ns, step.hold_end_ns - 1)
    wanted = [step.hold_start_ns <= row.dispatch_ns < step.hold_end_ns for row in RUN.rows]
    assert 0 < sum(wanted) < len(wanted)
    assert inside.tolist() == wanted


def test_without_readings_the_samples_are_the_same_object() -> None:
    samples = samples_from_tables([table_of(RUN.rows)])
    assert on_masters_clock(samples, [VISIT]) is samples
