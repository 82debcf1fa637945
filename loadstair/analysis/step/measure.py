"""One step of one visit, measured: all that verdict, pooling and comparison need of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.statistics.bootstrap import Blocked, blocked
from loadstair.analysis.step import latency
from loadstair.analysis.step.cached import CacheUse, cache_use
from loadstair.analysis.step.dispatch import DispatchLag, dispatch_lag
from loadstair.analysis.step.gaps import itl_blocked
from loadstair.analysis.step.latency import BoolArray, FloatArray, Stalls
from loadstair.analysis.step.little import Flow, flow
from loadstair.analysis.step.meanwhile import Meanwhile, in_window
from loadstair.analysis.step.slo import RequestLimits, within_limits
from loadstair.analysis.step.throughput import (
    SLICES,
    SlicedRate,
    Window,
    completion_rate,
    in_flight_mean,
    in_flight_over,
    token_rates,
)
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.readings import Telemetry
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.runrecord import StepRecord, VisitRecord

METRICS = ("ttft", "itl", "tpot", "e2e")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamping:
    """How well the step's requests of the hold are stamped."""

    chunks: int
    bunched: int
    bunched_late: float
    """Those of `bunched` that our own late reads merged, as far as the reads in time can tell."""
    read_lag_ns_p99: float | None
    """None without kernel stamps."""
    clocks: tuple[str, ...]
    clock_steps: int
    """Requests during which the wall clock was stepped, in any phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitStep:
    visit: VisitRecord
    record: StepRecord
    window: Window
    tokens: SlicedRate
    completions: SlicedRate
    good: SlicedRate | None
    """None without an SLO."""
    in_flight_mean: float
    over_hold: Mapping[str, FloatArray]
    """What must not drift, over SLICES equal parts of the hold: "requests in flight", "tokens/s", and "TTFT", the mean
    of the ok requests dispatched in that part, NaN without any."""
    latency_ms: Mapping[str, Blocked]
    """By METRICS, plus "ttft_due" and "e2e_due"; of ok requests dispatched in the hold."""
    outcomes: Mapping[str, int]
    """Of the requests dispatched in the hold; every outcome has an entry."""
    outcomes_all: Mapping[str, int]
    """Of all requests dispatched in the step."""
    stalls: Stalls
    stamping: Stamping
    dispatch_lag: DispatchLag | None
    """None in a closed loop, where nothing is due."""
    upstreams: Mapping[str, int]
    """Requests of the hold by who served them; empty where no balancer says."""
    token_deviation_median: float | None
    """|output tokens - asked| / asked of ok requests of the hold; None where the server did not count."""
    input_deviation_median: float | None
    """|input tokens - asked| / asked, as the one above."""
    input_tokens_mean: float | None
    input_tokens_asked_mean: float | None
    output_tokens_mean: float | None
    """Of ok requests of the hold whose tokens the server counted."""
    output_tokens_asked_max: int | None
    flow: Flow
    cached: CacheUse
    meanwhile: Meanwhile

    @property
    def ok(self) -> int:
        return self.outcomes[Outcome.OK]

    @property
    def failed(self) -> int:
        return self.finished - self.ok

    @property
    def finished(self) -> int:
        """All but the killed ones, whose end nobody knows."""
        return sum(self.outcomes.values()) - self.outcomes[Outcome.KILLED]


def measure_visit(
    visit: VisitRecord,
    samples: Samples,
    telemetry: Telemetry,
    limits: RequestLimits | None,
) -> tuple[VisitStep, ...]:
    """`samples` are the visit's own. Steps whose hold never took place (no positive window) are left out."""
    good = None if limits is None else within_limits(samples.requests, limits)
    records = [record for record in visit.steps if record.hold_end_ns > record.hold_start_ns]
    tokens = token_rates(samples, [_window(record) for record in records])
    return tuple(
        _measure_step(visit, record, samples, rate, good, telemetry)
        for record, rate in zip(records, tokens, strict=True)
    )


def _window(record: StepRecord) -> Window:
    return Window(start_ns=record.hold_start_ns, end_ns=record.hold_end_ns)


def _measure_step(
    visit: VisitRecord,
    record: StepRecord,
    samples: Samples,
    tokens: SlicedRate,
    good: BoolArray | None,
    telemetry: Telemetry,
) -> VisitStep:
    window = _window(record)
    tagged = np.flatnonzero((samples.requests["step"] == record.step).to_numpy(dtype=bool))
    step = samples.take(tagged)
    hold = step.take(np.flatnonzero((step.requests["phase"] == Phase.HOLD).to_numpy(dtype=bool)))
    timed = hold.take(latency.latency_rows(hold))
    output_asked = latency.int_column(timed.requests, "output_tokens_asked")
    inputs = timed.requests["input_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    inputs_known = ~np.isnan(inputs)
    outputs = timed.requests["output_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    input_asked = timed.requests["input_tokens_asked"].to_numpy(dtype=np.float64)
    return VisitStep(
        visit=visit,
        record=record,
        window=window,
        tokens=tokens,
        completions=completion_rate(samples, None, window),
        good=None if good is None else completion_rate(samples, good, window),
        in_flight_mean=in_flight_mean(samples, window),
        over_hold={
            "requests in flight": in_flight_over(samples, window.edges_ns(SLICES)),
            "tokens/s": tokens.per_slice,
            "TTFT": _ttft_over(timed, window),
        },
        latency_ms=_latencies(timed),
        outcomes=_outcomes(hold),
        outcomes_all=_outcomes(step),
        stalls=latency.stalls(timed),
        stamping=_stamping(step, hold),
        dispatch_lag=dispatch_lag(hold, record.counters.held_back),
        upstreams={
            str(name): int(count) for name, count in hold.requests["upstream"].value_counts().sort_index().items()
        },
        token_deviation_median=_deviation_median(timed, "output_tokens"),
        input_deviation_median=_deviation_median(timed, "input_tokens"),
        input_tokens_mean=_mean(inputs[inputs_known]),
        input_tokens_asked_mean=_mean(input_asked[inputs_known]),
        output_tokens_mean=_mean(outputs[~np.isnan(outputs)]),
        output_tokens_asked_max=int(output_asked.max()) if len(output_asked) else None,
        flow=flow(samples, hold, window),
        cached=cache_use(timed, telemetry, visit.topology, window),
        meanwhile=in_window(telemetry, visit.topology, window),
    )


def _ttft_over(timed: Samples, window: Window) -> FloatArray:
    """Mean TTFT in ms of the requests dispatched in each part of the window, NaN without any; shape [SLICES]."""
    ttft = latency.ttft_ms(timed.requests)
    known = ~np.isnan(ttft)
    since_ns = latency.int_column(timed.requests, "dispatch_ns") - window.start_ns
    part = np.clip(since_ns * SLICES // (window.end_ns - window.start_ns), 0, SLICES - 1)[known]
    count = np.bincount(part, minlength=SLICES)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(part, weights=ttft[known], minlength=SLICES) / count, dtype=np.float64)


def _deviation_median(timed: Samples, counted: str) -> float | None:
    """Median of |counted - asked| / asked over the requests whose server counted."""
    have = timed.requests[counted].to_numpy(dtype=np.float64, na_value=np.nan)
    asked = latency.int_column(timed.requests, f"{counted}_asked")
    told = ~np.isnan(have) & (asked > 0)
    return float(np.median(np.abs(have[told] - asked[told]) / asked[told])) if told.any() else None


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _latencies(timed: Samples) -> dict[str, Blocked]:
    requests = timed.requests
    return {
        "ttft": _per_request(latency.ttft_ms(requests)),
        "ttft_due": _per_request(latency.ttft_due_ms(requests)),
        "tpot": _per_request(latency.tpot_ms(requests)),
        "e2e": _per_request(latency.e2e_ms(requests)),
        "e2e_due": _per_request(latency.e2e_due_ms(requests)),
        "itl": itl_blocked(timed),
    }


def _per_request(values: FloatArray) -> Blocked:
    """In the order of dispatch; absent values are left out."""
    told: IntArray = np.flatnonzero(~np.isnan(values))
    present = values[told]
    return blocked(present, np.arange(len(present)), present)


def _outcomes(samples: Samples) -> dict[str, int]:
    counts = samples.requests["outcome"].value_counts()
    return {str(outcome): int(counts.get(outcome, 0)) for outcome in Outcome}


def _stamping(step: Samples, hold: Samples) -> Stamping:
    lags = hold.requests["read_lag_ns"].dropna().to_numpy(dtype=np.float64)
    return Stamping(
        chunks=hold.chunk_count,
        bunched=int(hold.requests["bunched"].sum()),
        bunched_late=_merged_by_us(hold),
        read_lag_ns_p99=float(np.quantile(lags, 0.99)) if len(lags) else None,
        clocks=tuple(sorted(str(clock) for clock in hold.requests["clock"].unique())),
        clock_steps=int(step.requests["clock_step"].sum()),
    )


def _merged_by_us(hold: Samples) -> float:
    """A late read may have merged what is in it, or found it merged, as often as reads in time did."""
    requests = hold.requests
    bunched, in_late_reads = int(requests["bunched"].sum()), int(requests["bunched_late"].sum())
    late_reads = int(requests["late_reads"].sum())
    reads_in_time = hold.chunk_count - bunched - late_reads
    merged_elsewhere = (bunched - in_late_reads) / reads_in_time if reads_in_time else 0.0
    return max(0.0, in_late_reads - merged_elsewhere * late_reads)
