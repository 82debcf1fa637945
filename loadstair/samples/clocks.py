"""The offsets of workers' clocks, taken out of their stamps.

A worker's stamps are moved onto the master's clock: by the offset between two readings, linear in time, which takes
out drift; before the first and after the last by that one's. One request is moved as a whole, by the offset when it was
dispatched: what happened within it keeps its durations. How the offsets are read: `loadstair.load.clocks`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loadstair.samples.frame import Samples
from loadstair.samples.runrecord import ClockReading, VisitRecord

IntArray = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]

STAMPS = ("due_ns", "dispatch_ns", "sent_ns", "headers_ns", "first_token_ns", "last_token_ns", "end_ns")
"""Columns of a request that are points in time; the others in ns are durations."""


def offsets_ns(readings: Sequence[ClockReading], stamps_ns: IntArray) -> IntArray:
    """How far one worker's clock was ahead of the master's at these stamps of its own."""
    ordered = sorted(readings, key=lambda reading: reading.at_ns)
    base_ns = ordered[0].at_ns + ordered[0].offset_ns
    known_at = np.array([reading.at_ns + reading.offset_ns - base_ns for reading in ordered], np.float64)
    # Against the first: a float holds the difference of two offsets, not a far-off clock and its nanoseconds.
    known = np.array([reading.offset_ns - ordered[0].offset_ns for reading in ordered], np.float64)
    moved = np.interp((stamps_ns - base_ns).astype(np.float64), known_at, known)
    return ordered[0].offset_ns + np.rint(moved).astype(np.int64)


def offsets_of_rows(readings: Sequence[ClockReading], workers: Names, stamps_ns: IntArray) -> IntArray:
    """As `offsets_ns`, for stamps of several workers; 0 for a worker without readings."""
    offsets = np.zeros(len(stamps_ns), np.int64)
    for worker in {reading.worker for reading in readings}:
        rows = workers == worker
        offsets[rows] = offsets_ns([one for one in readings if one.worker == worker], stamps_ns[rows])
    return offsets


def on_masters_clock(samples: Samples, visits: Sequence[VisitRecord]) -> Samples:
    """The samples as they are where no visit has readings: its workers were on the master's host."""
    readings = {visit.visit: [one for step in visit.steps for one in step.clocks] for visit in visits}
    if not any(readings.values()):
        return samples
    requests = samples.requests
    of_visit, workers = requests["visit"].to_numpy(np.int64), requests["worker"].to_numpy(object)
    dispatched_ns = requests["dispatch_ns"].to_numpy(np.int64)
    offsets = np.zeros(len(requests), np.int64)
    for visit, of_workers in readings.items():
        rows = of_visit == visit
        offsets[rows] = offsets_of_rows(of_workers, workers[rows], dispatched_ns[rows])
    arrivals = samples.arrivals
    moved = np.where(arrivals.chunks > 0, offsets, 0)
    return Samples(
        requests=requests.assign(**{name: requests[name] - offsets for name in STAMPS}),
        arrivals=replace(arrivals, first_ns=arrivals.first_ns - moved, last_ns=arrivals.last_ns - moved),
    )
