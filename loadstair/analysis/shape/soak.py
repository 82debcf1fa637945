"""Soak: one load for a long hold, cut into windows. What drifts: latencies, throughput, errors, queue, memory.

A window has the requests dispatched in it, and the tokens that arrived in it. Each series has a slope per hour with its
interval (`statistics.trend`). A run follows some twenty series, of which one would leave its 95 % interval by
chance; so a drift is claimed only at 5 % divided by the number of series (Bonferroni: it holds however much they hang
together), and only if it is large enough to matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.shape.soak_findings import (
    drift_finding,
    hold_findings,
    is_material,
    memory_material,
    too_few_in_window,
)
from loadstair.analysis.staircase.timeline import interval_means
from loadstair.analysis.statistics.bootstrap import enough_for
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.statistics.trend import WINDOWS_MIN, Slope, pooled, slope
from loadstair.analysis.statistics.weighted import Ordered, ordered
from loadstair.analysis.step import latency
from loadstair.analysis.step.gaps import gaps_ms
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.measure import METRICS
from loadstair.analysis.step.pool import JudgedStep
from loadstair.analysis.step.slo import QUANTILES
from loadstair.analysis.step.throughput import Window, in_flight_over, token_rate
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.readings import Telemetry
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.runrecord import StepRecord, VisitRecord
from loadstair.units import NS_PER_S

WINDOWS_MAX = 24
SPARE = 1.25
"""Requests per window over what the percentile needs, so that no window falls short by chance."""
FAMILY_LEVEL = 0.05
"""Of claiming any drift in a run where nothing drifts."""
S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One device's, or one host's, over the windows."""

    used: FloatArray
    """Bytes, shape [windows]."""
    room: float | None
    """Bytes left at the end; None where the total is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSeries:
    values: tuple[float | None, ...]
    """By window, of the first visit that counts; None where too little was seen."""
    level: float | None
    """Mean of the windows of all repeats."""
    drift_per_hour: Estimate
    drift_share: float | None
    """Change over the hold as a share of the level; None where the level is 0."""
    claim: str | None
    """rises or falls, where it is shown and matters."""
    hours_until_full: Estimate | None = None
    """Of a memory, on the device with the least left, if it goes on growing so; nothing where no growth is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """One topology's."""

    load: float
    valid: bool
    """False where no visit is valid: the invalid ones are shown."""
    hold_s: float
    visit: int
    """Whose windows are shown."""
    repeats: int
    """Visits that count."""
    window_s: float
    time_s: tuple[float, ...]
    """The middle of each window, since the visit's first step began."""
    series: Mapping[str, SoakSeries]
    """`ttft_ms.p50` … `e2e_ms.p99`, `output_tokens_per_s`, `in_flight`, `error_rate`, and where the server tells them
    `requests_waiting`, `kv_usage`, `gpu_memory_bytes`, `engine_memory_bytes`."""
    claim_level: float
    """The p-value below which a drift is claimed."""
    findings: tuple[Finding, ...]

    @property
    def claims(self) -> dict[str, str]:
        return {name: one.claim for name, one in self.series.items() if one.claim is not None}


def soak(
    judged: Sequence[JudgedStep],
    samples: Samples,
    telemetry: Telemetry,
    *,
    gpu_memory_bytes: float | None,
    topologies: int,
) -> Soak | None:
    """None if no visit held the load. `judged` of one topology; `samples` of the whole run.

    `gpu_memory_bytes`: of one GPU, as the catalogue has it, for where the driver does not say.
    `topologies`: how many the run soaks, for all of which the claims' level holds.
    """
    if not judged:
        return None
    valid = [one for one in judged if one.valid]
    visits = [(one.step.visit, one.step.record) for one in (valid or judged)]
    own = [_hold(samples, visit, record) for visit, record in visits]
    windows = _windows(min(len(latency.latency_rows(hold)) for _, hold in own))
    measured = [
        _measure(visit, record, all_, hold, telemetry, windows)
        for (visit, record), (all_, hold) in zip(visits, own, strict=True)
    ]
    memories = [_memories(visit, record, telemetry, windows, gpu_memory_bytes) for visit, record in visits]
    for series, parts in zip(measured, memories, strict=True):
        series |= {name: np.sum([one.used for one in devices], axis=0) for name, devices in parts.items()}
    first, record = visits[0]
    hold_s = (record.hold_end_ns - record.hold_start_ns) / NS_PER_S
    slopes = {name: _slope([one[name] for one in measured if name in one], hold_s) for name in measured[0]}
    level = FAMILY_LEVEL / max(1, topologies * sum(one is not None for one in slopes.values()))
    told = {
        name: _series(name, measured[0][name], found, memories[0].get(name), hold_s, level)
        for name, found in slopes.items()
    }
    start_s = (record.hold_start_ns - first.steps[0].start_ns) / NS_PER_S
    return Soak(
        load=record.load,
        valid=bool(valid),
        hold_s=hold_s,
        visit=first.visit,
        repeats=len(visits),
        window_s=hold_s / windows,
        time_s=tuple(start_s + hold_s * (place + 0.5) / windows for place in range(windows)),
        series=told,
        claim_level=level,
        findings=(
            *(
                drift_finding(name, one.claim, one.drift_per_hour, one.drift_share, hold_s, _soonest(one))
                for name, one in told.items()
                if one.claim is not None
            ),
            *hold_findings(
                hold_s,
                memory_known=any(name in told for name in ("gpu_memory_bytes", "engine_memory_bytes")),
                queue_grows=told["requests_waiting"].claim == "rises" if "requests_waiting" in told else False,
            ),
        ),
    )


def _hold(samples: Samples, visit: VisitRecord, record: StepRecord) -> tuple[Samples, Samples]:
    """All of the visit's requests, and those dispatched in the hold."""
    own = samples.take(np.flatnonzero((samples.requests["visit"] == visit.visit).to_numpy(dtype=bool)))
    held = (own.requests["step"] == record.step) & (own.requests["phase"] == Phase.HOLD)
    return own, own.take(np.flatnonzero(held.to_numpy(dtype=bool)))


def _windows(requests: int) -> int:
    """As many as leave each the requests that a p99 needs; where there are too few of those, that a p90 needs."""
    for quantile in (QUANTILES["p99"], QUANTILES["p90"]):
        windows = int(requests / (SPARE * enough_for(quantile)))
        if windows >= WINDOWS_MIN:
            return min(WINDOWS_MAX, windows)
    return WINDOWS_MIN


def _measure(
    visit: VisitRecord, record: StepRecord, own: Samples, hold: Samples, telemetry: Telemetry, windows: int
) -> dict[str, FloatArray]:
    """Each of shape [windows], NaN where there is nothing to tell."""
    edges_ns = _edges_ns(record, windows)
    timed = hold.take(latency.latency_rows(hold))
    place = _place(latency.int_column(timed.requests, "dispatch_ns"), edges_ns)
    parts = {
        "ttft": _by_window(latency.ttft_ms(timed.requests), place, windows),
        "itl": [gaps_ms(timed.arrivals.take(np.flatnonzero(place == window))) for window in range(windows)],
        "tpot": _by_window(latency.tpot_ms(timed.requests), place, windows),
        "e2e": _by_window(latency.e2e_ms(timed.requests), place, windows),
    }
    series: dict[str, FloatArray] = {}
    for metric in METRICS:
        series |= {f"{metric}_ms.{name}": by_window for name, by_window in _percentiles(parts[metric]).items()}
    hold_window = Window(start_ns=int(edges_ns[0]), end_ns=int(edges_ns[-1]))
    series["output_tokens_per_s"] = token_rate(own, hold_window, windows).per_slice
    series["in_flight"] = in_flight_over(own, edges_ns)
    series["error_rate"] = _error_rate(hold, edges_ns)
    for name, source in (("requests_waiting", "engine.requests.waiting"), ("kv_usage", "engine.kv.usage")):
        means = interval_means(telemetry, visit.topology, source, edges_ns)
        if means is not None:
            series[name] = means.sum(axis=0) if name == "requests_waiting" else means.max(axis=0)
    return series


def _by_window(values: FloatArray, place: IntArray, windows: int) -> list[Ordered]:
    told = ~np.isnan(values)
    return [ordered([values[told & (place == window)]], [None]) for window in range(windows)]


def _percentiles(parts: Sequence[Ordered]) -> dict[str, FloatArray]:
    """Of each window, NaN where it has too few."""
    return {
        name: np.array([part.quantile(q) if part.n >= enough_for(q) else np.nan for part in parts])
        for name, q in QUANTILES.items()
    }


def _error_rate(hold: Samples, edges_ns: IntArray) -> FloatArray:
    finished = (hold.requests["outcome"] != Outcome.KILLED).to_numpy(dtype=bool)
    failed = finished & (hold.requests["outcome"] != Outcome.OK).to_numpy(dtype=bool)
    place = _place(latency.int_column(hold.requests, "dispatch_ns"), edges_ns)
    windows = len(edges_ns) - 1
    total = np.bincount(place[finished], minlength=windows)
    return np.where(total > 0, np.bincount(place[failed], minlength=windows) / np.maximum(1, total), np.nan)


def _memories(
    visit: VisitRecord, record: StepRecord, telemetry: Telemetry, windows: int, gpu_memory_bytes: float | None
) -> dict[str, tuple[Memory, ...]]:
    """By the name of its series: a device each for GPUs, all engines together for the host's."""
    edges_ns = _edges_ns(record, windows)
    result: dict[str, tuple[Memory, ...]] = {}
    used = interval_means(telemetry, visit.topology, "gpu.memory_used_bytes", edges_ns)
    if used is not None:
        told = interval_means(telemetry, visit.topology, "gpu.memory_total_bytes", edges_ns)
        totals = (
            [gpu_memory_bytes] * len(used)
            if told is None or len(told) != len(used)
            else [float(np.nanmax(one)) for one in told]
        )
        result["gpu_memory_bytes"] = tuple(
            Memory(used=one, room=_room(one, total)) for one, total in zip(used, totals, strict=True)
        )
    here = interval_means(telemetry, visit.topology, "process.memory_bytes", edges_ns)
    resident = (
        interval_means(telemetry, visit.topology, "engine.resident_memory_bytes", edges_ns) if here is None else here
    )
    if resident is not None:
        available = None if here is None else _host_available(telemetry, edges_ns)
        result["engine_memory_bytes"] = (Memory(used=resident.sum(axis=0), room=available),)
    return result


def _room(used: FloatArray, total: float | None) -> float | None:
    seen = used[~np.isnan(used)]
    return None if total is None or len(seen) == 0 else max(0.0, float(total) - float(seen[-1]))


def _host_available(telemetry: Telemetry, edges_ns: IntArray) -> float | None:
    """At the end of the hold, of the machine whose processes are watched: the one that drives the run."""
    told = telemetry.between("host.memory_available_bytes", None, int(edges_ns[0]), int(edges_ns[-1]))
    return next((float(one.value[-1]) for one in told if one.source == "host"), None)


def _edges_ns(record: StepRecord, windows: int) -> IntArray:
    return Window(start_ns=record.hold_start_ns, end_ns=record.hold_end_ns).edges_ns(windows)


def _place(time_ns: IntArray, edges_ns: IntArray) -> IntArray:
    """A request's tag is set by its worker, a moment beside the barrier: those at the edges belong to the ends."""
    found = np.searchsorted(edges_ns, time_ns, side="right") - 1
    return np.clip(found, 0, len(edges_ns) - 2).astype(np.int64)


def _slope(by_visit: Sequence[FloatArray], hold_s: float) -> Slope | None:
    """Per hour, over the repeats that tell it."""
    windows = len(by_visit[0])
    hours = (np.arange(windows) + 0.5) * hold_s / windows / S_PER_HOUR
    found = [one for one in (slope(hours, values) for values in by_visit) if one is not None]
    return pooled(found) if found else None


def _series(
    name: str,
    values: FloatArray,
    found: Slope | None,
    devices: tuple[Memory, ...] | None,
    hold_s: float,
    level: float,
) -> SoakSeries:
    told = tuple(None if np.isnan(value) else float(value) for value in values)
    if found is None:
        seen = values[~np.isnan(values)]
        return SoakSeries(
            values=told,
            level=float(seen.mean()) if len(seen) else None,
            drift_per_hour=Estimate.nothing(len(seen), (too_few_in_window(name, len(seen)),)),
            drift_share=None,
            claim=None,
            hours_until_full=None if devices is None else Estimate.nothing(),
        )
    hours = _hours_until_full(devices, hold_s) if devices is not None else None
    matters = (
        is_material(name, found.value, found.level, hold_s)
        if hours is None
        else memory_material(found.value, found.level, hours.value, hold_s)
    )
    claim = ("rises" if found.value > 0 else "falls") if matters and found.p_value < level else None
    change = found.value * hold_s / S_PER_HOUR
    return SoakSeries(
        values=told,
        level=found.level,
        drift_per_hour=found.estimate(),
        drift_share=change / found.level if found.level else None,
        claim=claim,
        hours_until_full=hours if hours is None or claim == "rises" else Estimate.nothing(),
    )


def _hours_until_full(devices: tuple[Memory, ...], hold_s: float) -> Estimate:
    """Of the device with the least time left; nothing where none grows, or no total is known."""
    least = Estimate.nothing()
    for device in devices:
        growth = _slope([device.used], hold_s)
        if growth is None or device.room is None or growth.value <= 0:
            continue
        hours = device.room / growth.value
        if least.value is None or hours < least.value:
            rate = growth.estimate()
            bounded = rate.low is not None and rate.high is not None and rate.low > 0
            least = Estimate(
                value=hours,
                low=device.room / rate.high if bounded and rate.high else None,
                high=device.room / rate.low if bounded and rate.low else None,
                n=growth.windows,
            )
    return least


def _soonest(one: SoakSeries) -> float | None:
    return None if one.hours_until_full is None else one.hours_until_full.value
