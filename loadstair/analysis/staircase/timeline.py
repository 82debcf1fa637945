"""What went on over a visit, coarse enough to be drawn: users, requests under way, the engines' queues and caches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadstair.samples.frame import Samples
from loadstair.samples.readings import Readings, Telemetry
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import StepRecord, VisitRecord
from loadstair.units import NS_PER_S

POINTS_MAX = 200
READINGS_PER_INTERVAL = 1.5
"""Above one, so that a reading that comes a little late leaves no interval empty."""

FloatArray = npt.NDArray[np.float64]
Series = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpan:
    """When a step of the visit took place, in seconds since the visit's first step began."""

    load: float
    start_s: float
    hold_start_s: float
    hold_end_s: float
    tail_end_s: float
    upstreams: Mapping[str, float]
    """Shares of the hold's requests by who served them, 0 to 1; empty where no balancer says. Of one visit, because
    engines that are started anew have other addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One visit in at most POINTS_MAX intervals, from the first step's start to the end of the last one's tail.

    A series has one value per interval, None where nothing was read in it; the series itself is None where the engines
    never told it. A sum over engines needs a reading of every engine that ever told the series.
    """

    visit: int
    repeat: int
    repeats: int
    """Of this topology that measured a step; the others are not in here."""
    interval_s: float
    """The length of all but the last, which may be shorter."""
    time_s: tuple[float, ...]
    """The middle of each interval."""
    in_flight: Series
    """Requests under way as the clients saw them, at the middle of the interval."""
    requests_running: Series | None
    """Mean over the interval, summed over the engines, as the following one."""
    requests_waiting: Series | None
    kv_usage: Series | None
    """The fullest engine's mean, 0 to 1."""
    steps: tuple[StepSpan, ...]


def timeline(visits: tuple[VisitRecord, ...], samples: Samples, telemetry: Telemetry) -> Timeline | None:
    """The first repeat with a step, and of its visits (a resumed run has several) the one with the most; None if there
    is none. `visits` of one topology, `samples` of the whole run."""
    measured = [visit for visit in visits if visit.steps]
    if not measured:
        return None
    visit = max((one for one in measured if one.repeat == measured[0].repeat), key=lambda one: len(one.steps))
    start_ns, end_ns = visit.steps[0].start_ns, visit.steps[-1].tail_end_ns
    if end_ns <= start_ns:
        return None
    running = telemetry.between("engine.requests.running", visit.topology, start_ns, end_ns)
    edges_ns = _edges_ns(start_ns, end_ns, _reading_interval_ns(running))
    middles_ns = (edges_ns[:-1] + edges_ns[1:]) // 2
    requests = samples.requests[samples.requests["visit"] == visit.visit]
    return Timeline(
        visit=visit.visit,
        repeat=visit.repeat,
        repeats=len({one.repeat for one in measured}),
        interval_s=float(edges_ns[1] - edges_ns[0]) / NS_PER_S,
        time_s=tuple(float(at - start_ns) / NS_PER_S for at in middles_ns),
        in_flight=_in_flight(requests, middles_ns),
        requests_running=_summed(interval_means(telemetry, visit.topology, "engine.requests.running", edges_ns)),
        requests_waiting=_summed(interval_means(telemetry, visit.topology, "engine.requests.waiting", edges_ns)),
        kv_usage=_fullest(interval_means(telemetry, visit.topology, "engine.kv.usage", edges_ns)),
        steps=tuple(_span(step, start_ns, requests) for step in visit.steps),
    )


def _reading_interval_ns(told: Sequence[Readings]) -> float:
    """The slowest engine's median; 0 without two readings."""
    return max((float(np.median(np.diff(one.time_ns))) for one in told if len(one.time_ns) > 1), default=0.0)


def _edges_ns(start_ns: int, end_ns: int, reading_ns: float) -> npt.NDArray[np.int64]:
    """Shape [intervals + 1], from start to end; the last interval may be shorter."""
    width = math.ceil(max((end_ns - start_ns) / POINTS_MAX, READINGS_PER_INTERVAL * reading_ns))
    return np.append(np.arange(start_ns, end_ns, width, dtype=np.int64), np.int64(end_ns))


def _in_flight(requests: pd.DataFrame, at_ns: npt.NDArray[np.int64]) -> Series:
    """Sent and not yet ended; a request that was never sent does not count."""
    sent = requests[requests["sent_ns"].notna()]
    began = np.sort(sent["sent_ns"].to_numpy(dtype=np.int64))
    ended = np.sort(sent["end_ns"].to_numpy(dtype=np.int64))
    counts = np.searchsorted(began, at_ns, side="right") - np.searchsorted(ended, at_ns, side="right")
    return tuple(float(count) for count in counts)


def interval_means(
    telemetry: Telemetry, topology: str, series: str, edges_ns: npt.NDArray[np.int64]
) -> FloatArray | None:
    """Shape [engines, intervals], NaN where nothing was read; None where no engine tells the series in that time."""
    told = telemetry.between(series, topology, int(edges_ns[0]), int(edges_ns[-1]))
    if not told:
        return None
    intervals = len(edges_ns) - 1
    means = []
    for one in told:
        place = np.searchsorted(edges_ns, one.time_ns, side="right") - 1
        counts = np.bincount(place, minlength=intervals)
        sums = np.bincount(place, weights=one.value, minlength=intervals)
        means.append(np.where(counts > 0, sums / np.maximum(1, counts), np.nan))
    return np.stack(means)


def _summed(means: FloatArray | None) -> Series | None:
    return None if means is None else _told(means.sum(axis=0))


def _fullest(means: FloatArray | None) -> Series | None:
    return None if means is None else _told(means.max(axis=0))


def _told(values: FloatArray) -> Series:
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _span(step: StepRecord, start_ns: int, requests: pd.DataFrame) -> StepSpan:
    hold = requests[(requests["step"] == step.step) & (requests["phase"] == Phase.HOLD)]
    shares = hold["upstream"].value_counts(normalize=True).sort_index()
    return StepSpan(
        load=step.load,
        start_s=(step.start_ns - start_ns) / NS_PER_S,
        hold_start_s=(step.hold_start_ns - start_ns) / NS_PER_S,
        hold_end_s=(step.hold_end_ns - start_ns) / NS_PER_S,
        tail_end_s=(step.tail_end_ns - start_ns) / NS_PER_S,
        upstreams={str(name): float(share) for name, share in shares.items()},
    )
