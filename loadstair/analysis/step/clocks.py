"""Whether the clocks of workers on other hosts were known well enough to put their stamps on one time axis."""

from collections.abc import Iterator
from itertools import pairwise

from loadstair.analysis.statistics.estimate import Finding
from loadstair.samples.runrecord import ClockReading, StepRecord
from loadstair.units import NS_PER_MS

UNCERTAINTY_NS_MAX = 5 * NS_PER_MS
DRIFT_MAX = 500e-6
"""The fastest that a time service slews a clock, and more than any crystal drifts."""


def judge_clocks(record: StepRecord) -> Iterator[Finding]:
    worst = max(record.clocks, key=lambda one: one.uncertainty_ns, default=None)
    if worst is not None and worst.uncertainty_ns > UNCERTAINTY_NS_MAX:
        yield Finding.warning(
            "clock.uncertain",
            f"the clock of {worst.worker} is known to ±{worst.uncertainty_ns / NS_PER_MS:.1f} ms only (the way to it "
            "and back takes twice that): latencies are not affected, the edges of the hold are; use a shorter way, or "
            "a less busy worker host",
        )
    jumped = sorted({worker for worker, before, after in _neighbours(record.clocks) if _jumped(before, after)})
    if jumped:
        yield Finding.warning(
            "clock.jumped",
            f"the clock of {', '.join(jumped)} was stepped against the orchestrator's during the step: its requests "
            "lie at wrong times in it; stop the time service meanwhile, or let it slew only",
        )


def _neighbours(readings: tuple[ClockReading, ...]) -> Iterator[tuple[str, ClockReading, ClockReading]]:
    for worker in {reading.worker for reading in readings}:
        mine = sorted((one for one in readings if one.worker == worker), key=lambda one: one.at_ns)
        for before, after in pairwise(mine):
            yield worker, before, after


def _jumped(before: ClockReading, after: ClockReading) -> bool:
    drifted_ns = DRIFT_MAX * (after.at_ns - before.at_ns)
    allowed_ns = drifted_ns + before.uncertainty_ns + after.uncertainty_ns + NS_PER_MS
    return abs(after.offset_ns - before.offset_ns) > allowed_ns
