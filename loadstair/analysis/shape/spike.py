"""Spike: the usual load, a surge, the usual load again. When the SLO was lost, how badly, and how long until it held.

Time is that of dispatch: what a user who came then got. `slo_holds` says when an SLO holds. The
recovery counts from the end of the surge; it is 0 where the SLO held again before that, or was never lost.

One surge is one event, however many requests saw it. Within it the doubt is that of its requests (resampled among their
neighbours in time); between the repeats, that of the next surge. The wider of the two counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from loadstair.analysis.shape.slo_holds import Course, Limit, course, limits_of, met, taken, window_requests
from loadstair.analysis.shape.spike_findings import (
    findings_of,
    never_lost_finding,
    not_recovered_finding,
    one_surge_finding,
    slo_before_finding,
    too_few_finding,
)
from loadstair.analysis.staircase.timeline import interval_means
from loadstair.analysis.statistics.bootstrap import Measured, measured
from loadstair.analysis.statistics.estimate import Estimate, Finding, Severity
from loadstair.analysis.step import latency
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import JudgedStep
from loadstair.analysis.step.slo import request_limits, within_limits
from loadstair.analysis.step.throughput import in_flight_over
from loadstair.plan.model import Slo
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.readings import Telemetry
from loadstair.samples.record import Outcome
from loadstair.samples.runrecord import StepRecord, VisitRecord
from loadstair.units import NS_PER_S

USUAL, SURGE, RECOVERY = range(3)
"""Step numbers."""
DRAWS = 200
BLOCK = 10
"""Requests that are resampled together: neighbours share batches and queues."""
POINTS_MAX = 120
INTERVAL_S_MIN = 1.0
PEAK_REQUESTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSpike:
    visit: int
    repeat: int
    surge_s: float
    observed_s: float
    """How long the usual load was watched after the surge."""
    held_before: bool | None
    """Whether the usual load met the SLO before the surge; None with too few requests to tell."""
    lost_s: float | None
    """From the surge's start to the first request of the loss; None where the SLO was never lost."""
    recovery_s: float | None
    """From the surge's end; None where the SLO did not hold again, or it cannot be told."""
    draws: FloatArray
    """Shape [DRAWS]: the recovery as resampled requests have it; `observed_s` where it was not reached."""
    ttft_ms_p90_peak: float | None
    ttft_ms_p99_peak: float | None
    """Of the worst 100 successive requests from the surge's start on."""
    share_beyond: float | None
    """Of the requests of the surge: failed, or beyond what the SLO asks of each."""
    requests: int
    """Dispatched from the surge's start on."""
    failed: int
    """Of `requests`."""
    waiting_peak: float | None
    """Requests waiting in the engines, the highest mean of an interval; None where they do not tell."""

    @property
    def recovered(self) -> bool:
        return self.recovery_s is not None

    @property
    def at_least_s(self) -> float:
        return self.observed_s if self.recovery_s is None else self.recovery_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeCourse:
    """One visit in intervals of time, to be drawn. None where nothing was dispatched, or read."""

    interval_s: float
    time_s: tuple[float, ...]
    """The middle of each interval, since the visit's first step began."""
    ttft_ms_p50: tuple[float | None, ...]
    ttft_ms_p90: tuple[float | None, ...]
    share_beyond: tuple[float | None, ...]
    in_flight: tuple[float | None, ...]
    requests_waiting: tuple[float | None, ...] | None
    surge_start_s: float
    surge_end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """One topology's."""

    usual_load: float
    surge_load: float
    valid: bool
    """False where no visit is valid: the invalid ones are shown."""
    visits: tuple[VisitSpike, ...]
    recovery_s: Estimate
    recovery_s_at_least: float
    """The mean, with `observed_s` for the repeats that did not recover: what a threshold can rely on being there."""
    recovered_share: float
    """Of the repeats."""
    lost_s: Estimate
    ttft_ms_p90_peak: Estimate
    ttft_ms_p99_peak: Estimate
    share_beyond: Estimate
    failed: int
    waiting_peak: float | None
    course: SpikeCourse
    """Of the first visit that counts."""
    findings: tuple[Finding, ...]


def spike(
    judged: Sequence[JudgedStep], samples: Samples, telemetry: Telemetry, slo: Slo, rng: np.random.Generator
) -> Spike | None:
    """`judged` of one topology; `samples` of the whole run. None if no visit got as far as the usual load after it."""
    by_visit: dict[int, list[JudgedStep]] = {}
    for one in judged:
        by_visit.setdefault(one.step.visit.visit, []).append(one)
    complete = [steps for steps in by_visit.values() if {s.step.record.step for s in steps} >= {USUAL, SURGE, RECOVERY}]
    if not complete:
        return None
    valid = [steps for steps in complete if all(one.valid for one in steps)]
    chosen = [steps[0].step.visit for steps in (valid or complete)]
    visits = [_visit(visit, _seen(visit, samples), telemetry, slo, rng) for visit in chosen]
    steps = _steps(chosen[0])
    return Spike(
        usual_load=steps[USUAL].load,
        surge_load=steps[SURGE].load,
        valid=bool(valid),
        visits=tuple(visits),
        recovery_s=_recovery(visits, window_requests(slo), rng),
        recovery_s_at_least=fmean(one.at_least_s for one in visits),
        recovered_share=fmean(one.recovered for one in visits),
        lost_s=_over_repeats({one.repeat: one.lost_s for one in visits}, rng),
        ttft_ms_p90_peak=_over_repeats({one.repeat: one.ttft_ms_p90_peak for one in visits}, rng),
        ttft_ms_p99_peak=_over_repeats({one.repeat: one.ttft_ms_p99_peak for one in visits}, rng),
        share_beyond=_over_repeats({one.repeat: one.share_beyond for one in visits}, rng),
        failed=sum(one.failed for one in visits),
        waiting_peak=max((one.waiting_peak for one in visits if one.waiting_peak is not None), default=None),
        course=_course_over_time(chosen[0], _seen(chosen[0], samples), telemetry, slo),
        findings=findings_of(
            failed=sum(one.failed for one in visits),
            requests=sum(one.requests for one in visits),
            never_lost=bool(valid) and all(one.lost_s is None and one.recovered for one in visits),
            invalid=() if valid else _reasons(complete[0]),
        ),
    )


def _reasons(steps: Sequence[JudgedStep]) -> tuple[str, ...]:
    return tuple(f.message for one in steps for f in one.findings if f.severity is Severity.INVALID)


def _steps(visit: VisitRecord) -> Mapping[int, StepRecord]:
    return {step.step: step for step in visit.steps}


def _seen(visit: VisitRecord, samples: Samples) -> Samples:
    """Dispatched from the first hold's start to the last one's end, in order; without killed ones, whose end nobody
    knows."""
    steps, requests = _steps(visit), samples.requests
    dispatched = latency.int_column(requests, "dispatch_ns")
    wanted = (
        (requests["visit"] == visit.visit).to_numpy(dtype=bool)
        & (requests["outcome"] != Outcome.KILLED).to_numpy(dtype=bool)
        & (dispatched >= steps[USUAL].hold_start_ns)
        & (dispatched < steps[RECOVERY].hold_end_ns)
    )
    rows = np.flatnonzero(wanted)
    return samples.take(rows[np.argsort(dispatched[rows], kind="stable")])


def _visit(visit: VisitRecord, seen: Samples, telemetry: Telemetry, slo: Slo, rng: np.random.Generator) -> VisitSpike:
    steps, size = _steps(visit), window_requests(slo)
    start_ns, end_ns, until_ns = steps[SURGE].start_ns, steps[RECOVERY].start_ns, steps[RECOVERY].hold_end_ns
    dispatched = latency.int_column(seen.requests, "dispatch_ns")
    limits = limits_of(slo, seen)
    surge_at, end_at = (int(at) for at in np.searchsorted(dispatched, [start_ns, end_ns]))
    before = np.arange(surge_at)
    after = np.arange(surge_at, len(dispatched))
    held_before = met(taken(limits, before)) if surge_at >= size else None
    observed_s = (until_ns - end_ns) / NS_PER_S
    found = course(taken(limits, after), size) if len(after) >= size else None
    enough = len(dispatched) - end_at >= size and found is not None
    since_end_s = (dispatched[after] - end_ns) / NS_PER_S
    known = enough and held_before is not False
    ttft = latency.ttft_ms(seen.requests)[after]
    failed = (seen.requests["outcome"] != Outcome.OK).to_numpy(dtype=bool)
    beyond = failed | ~within_limits(seen.requests, request_limits(slo))
    return VisitSpike(
        visit=visit.visit,
        repeat=visit.repeat,
        surge_s=(end_ns - start_ns) / NS_PER_S,
        observed_s=observed_s,
        held_before=held_before,
        lost_s=None
        if found is None or found.first is None
        else float(dispatched[after[found.first]] - start_ns) / NS_PER_S,
        recovery_s=_recovery_s(found, since_end_s) if known and found is not None else None,
        draws=_draws(taken(limits, after), size, since_end_s, observed_s, rng) if known else np.zeros(0),
        ttft_ms_p90_peak=_peak(ttft, 0.9),
        ttft_ms_p99_peak=_peak(ttft, 0.99),
        share_beyond=float(beyond[surge_at:end_at].mean()) if end_at > surge_at else None,
        requests=len(after),
        failed=int(failed[surge_at:].sum()),
        waiting_peak=_waiting_peak(visit.topology, telemetry, start_ns, until_ns),
    )


def _recovery_s(found: Course, since_end_s: FloatArray) -> float | None:
    if found.first is None:
        return 0.0
    return None if found.last is None else max(0.0, float(since_end_s[found.last]))


def _draws(
    limits: tuple[Limit, ...], size: int, since_end_s: FloatArray, observed_s: float, rng: np.random.Generator
) -> FloatArray:
    """A local bootstrap: each block of requests is replaced by one from near it, so that the course stays as it was."""
    count, reach = len(since_end_s), size // 4
    draws = np.empty(DRAWS)
    for draw in range(DRAWS):
        shifts = rng.integers(-reach, reach + 1, size=-(-count // BLOCK))
        rows = np.clip(np.arange(count) + np.repeat(shifts, BLOCK)[:count], 0, count - 1)
        recovery_s = _recovery_s(course(taken(limits, rows), size), since_end_s)
        draws[draw] = observed_s if recovery_s is None else recovery_s
    return draws


def _recovery(visits: Sequence[VisitSpike], size: int, rng: np.random.Generator) -> Estimate:
    told = [one for one in visits if one.recovery_s is not None]
    if any(one.held_before is False for one in visits):
        return Estimate.nothing(len(visits), (slo_before_finding(),))
    if len(told) < len(visits):
        lost = [one for one in visits if one.recovery_s is None]
        if all(len(one.draws) == 0 for one in lost):
            return Estimate.nothing(len(visits), (too_few_finding(size),))
        return Estimate.nothing(
            len(visits), (not_recovered_finding(len(lost), len(visits), min(one.observed_s for one in lost)),)
        )
    by_repeat = {one.repeat: one.at_least_s for one in told}
    value = fmean(by_repeat.values())
    # Resampling moves the last late request by up to a window's quarter either way; what it tells is the spread.
    within = np.mean([one.draws - np.median(one.draws) for one in told], axis=0) + value
    number = measured(value=value, by_repeat=by_repeat, within=np.maximum(0.0, within), n=len(told), rng=rng)
    if all(one.lost_s is None for one in told):
        return number.estimate((never_lost_finding(),))
    return number.estimate((one_surge_finding(),) if len(told) == 1 else ())


def _over_repeats(by_repeat: Mapping[int, float | None], rng: np.random.Generator) -> Estimate:
    """Mean over the repeats that have it; an interval from two on."""
    told = {repeat: value for repeat, value in by_repeat.items() if value is not None}
    if not told:
        return Estimate.nothing()
    value = fmean(told.values())
    number: Measured = measured(value=value, by_repeat=told, within=np.full(DRAWS, value), n=len(told), rng=rng)
    if len(told) == 1:
        return Estimate(value=value, low=None, high=None, n=1)
    return number.estimate()


def _peak(ttft_ms: FloatArray, quantile: float) -> float | None:
    """The highest over windows of PEAK_REQUESTS successive answered requests."""
    told = ttft_ms[~np.isnan(ttft_ms)]
    if len(told) < PEAK_REQUESTS:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(told, PEAK_REQUESTS)[:: PEAK_REQUESTS // 10]
    return float(np.quantile(windows, quantile, axis=1).max())


def _edges_ns(start_ns: int, end_ns: int) -> IntArray:
    width = max((end_ns - start_ns) // POINTS_MAX + 1, round(INTERVAL_S_MIN * NS_PER_S))
    return np.append(np.arange(start_ns, end_ns, width, dtype=np.int64), np.int64(end_ns))


def _waiting(topology: str, telemetry: Telemetry, edges_ns: IntArray) -> FloatArray | None:
    """Shape [intervals], summed over the engines."""
    means = interval_means(telemetry, topology, "engine.requests.waiting", edges_ns)
    return None if means is None else np.asarray(means.sum(axis=0), dtype=np.float64)


def _waiting_peak(topology: str, telemetry: Telemetry, start_ns: int, end_ns: int) -> float | None:
    waiting = _waiting(topology, telemetry, _edges_ns(start_ns, end_ns))
    return None if waiting is None or np.isnan(waiting).all() else float(np.nanmax(waiting))


def _course_over_time(visit: VisitRecord, seen: Samples, telemetry: Telemetry, slo: Slo) -> SpikeCourse:
    steps, requests = _steps(visit), seen.requests
    zero_ns = visit.steps[0].start_ns
    edges_ns = _edges_ns(steps[USUAL].hold_start_ns, steps[RECOVERY].hold_end_ns)
    cuts = np.searchsorted(latency.int_column(requests, "dispatch_ns"), edges_ns[1:-1])
    ttft = [part[~np.isnan(part)] for part in np.split(latency.ttft_ms(requests), cuts)]
    failed = (requests["outcome"] != Outcome.OK).to_numpy(dtype=bool)
    beyond = np.split(failed | ~within_limits(requests, request_limits(slo)), cuts)
    waiting = _waiting(visit.topology, telemetry, edges_ns)
    return SpikeCourse(
        interval_s=float(edges_ns[1] - edges_ns[0]) / NS_PER_S,
        time_s=tuple(((edges_ns[:-1] + edges_ns[1:]) / 2 - zero_ns) / NS_PER_S),
        ttft_ms_p50=tuple(float(np.quantile(part, 0.5)) if len(part) >= 2 else None for part in ttft),
        ttft_ms_p90=tuple(float(np.quantile(part, 0.9)) if len(part) >= 10 else None for part in ttft),
        share_beyond=tuple(float(part.mean()) if len(part) else None for part in beyond),
        in_flight=tuple(in_flight_over(seen, edges_ns).tolist()),
        requests_waiting=None
        if waiting is None
        else tuple(None if np.isnan(value) else float(value) for value in waiting),
        surge_start_s=(steps[SURGE].start_ns - zero_ns) / NS_PER_S,
        surge_end_s=(steps[RECOVERY].start_ns - zero_ns) / NS_PER_S,
    )
