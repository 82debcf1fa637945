from dataclasses import replace

from loadstair.analysis.step.clocks import judge_clocks
from loadstair.samples.runrecord import ClockReading, StepRecord
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.analysis.synthetic import TP4, plan_of, simulate

(VISIT,) = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [2], "hold_s": 2})).run.visits


def step_with(*readings: tuple[str, int, float, float]) -> StepRecord:
    """Each: worker, second, offset in ms, uncertainty in ms."""
    clocks = tuple(
        ClockReading(
            worker=worker,
            offset_ns=round(offset_ms * NS_PER_MS),
            uncertainty_ns=round(uncertainty_ms * NS_PER_MS),
            at_ns=at_s * NS_PER_S,
        )
        for worker, at_s, offset_ms, uncertainty_ms in readings
    )
    return replace(VISIT.steps[0], clocks=clocks)


def findings_of(step: StepRecord) -> dict[str, str]:
    return {finding.id: finding.message for finding in judge_clocks(step)}


def test_a_far_off_clock_that_is_known_well_and_drifts_is_no_concern() -> None:
    assert findings_of(step_with(("worker-0", 0, 9e6, 0.2), ("worker-0", 100, 9e6 + 10, 0.2))) == {}
    assert findings_of(step_with()) == {}


def test_a_clock_that_is_known_badly_is_told_with_how_badly() -> None:
    found = findings_of(step_with(("worker-0", 0, 0, 1), ("worker-1", 0, 0, 7.5)))
    assert set(found) == {"clock.uncertain"}
    assert "worker-1 is known to ±7.5 ms only" in found["clock.uncertain"]


def test_a_clock_that_was_stepped_between_two_readings_is_told() -> None:
    """In 10 s a clock drifts by 5 ms at most (500 ppm); with both uncertainties and 1 ms that is 8 ms."""
    assert set(findings_of(step_with(("worker-0", 0, 0, 1), ("worker-0", 10, 9, 1)))) == {"clock.jumped"}
    assert findings_of(step_with(("worker-0", 0, 0, 1), ("worker-0", 10, 7, 1))) == {}
