"""What a run did, step by step: `run.json`. Written anew after every step, so a run that dies keeps its steps."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadstair.samples.calibration import Calibration

RUN_SCHEMA = 1


class Ending(StrEnum):
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    TOPOLOGY_FAILED = "topology_failed"
    LOAD_FAILED = "load_failed"
    STORAGE_FAILED = "storage_failed"
    RUNNING = "running"
    """Still measuring, or killed while it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The workers' own books for the requests dispatched in one step (all phases), after all of them ended."""

    started: int
    ok: int
    failed: int
    killed: int
    scheduled: int = 0
    """What came due by the schedule of an open loop: all of it is started, unless it was held back until the end."""
    held_back: int = 0
    """Of those: had to wait because `load.max_in_flight` requests were under way."""
    lost: int = 0
    """Started by a worker that was lost, and not recorded until then: started = ok + failed + killed + lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """A remote worker's CLOCK_REALTIME against the master's."""

    worker: str
    offset_ns: int
    """The worker's minus the master's."""
    uncertainty_ns: int
    """The true offset lies within ± this."""
    at_ns: int
    """When, by the master's clock."""


class StepRole(StrEnum):
    """Why a step was measured."""

    PLANNED = "planned"
    REPEATED = "repeated"
    """Again, because it was invalid."""
    REFINED = "refined"
    """To place the knee."""
    BISECTED = "bisected"
    """To place where the SLO is violated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of one visit. The hold window is [hold_start_ns, hold_end_ns), CLOCK_REALTIME.

    A visit can hold a load twice: a step that was invalid, and its repeat.
    """

    step: int
    load: float
    start_ns: int
    hold_start_ns: int
    hold_end_ns: int
    tail_end_ns: int
    tail_complete: bool
    """False when `tail_s_max` passed with requests of the hold still under way."""
    workers: tuple[str, ...]
    """Those that were there when it began."""
    workers_lost: tuple[str, ...]
    """Of those, by its end."""
    counters: Counters
    """Final only after the visit's drain: requests of the tail end in the next step."""
    role: StepRole = StepRole.PLANNED
    stationary: bool | None = None
    """Whether warm-up ended because the load had become stationary; None where nobody looked."""
    clocks: tuple[ClockReading, ...] = ()
    """Of workers on other hosts, at the step's beginning and end; empty where all are on the master's host."""
    test: str | None = None
    """In a matrix run what this burst was: a test's id, `baseline/…` or `warmup`. None in a staircase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCounters:
    """An engine's own totals. None where the server does not publish it."""

    requests_finished: float | None
    output_tokens: float | None
    input_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRecord:
    visit: int
    topology: str
    repeat: int
    steps: tuple[StepRecord, ...]
    server_before: ServerCounters | None
    """Summed over the engines, before the first request of the visit and after its drain; None if one is silent."""
    server_after: ServerCounters | None
    drained: bool
    """Every request ended by itself before the visit's end."""
    stopped: str | None = None
    """Why the staircase ended before its last step; None where it did not."""
    finished: bool = False
    """It got to its own end, so that a resumed run needs no other in its place."""
    broke_off: Ending | None = None
    """How it ended early, where the run went on without it or was resumed later. `load_failed`: workers were lost, and
    another visit of this topology and repeat goes on with new ones."""
    broke_off_message: str | None = None
    workers_wanted: int | None = None
    """As many were waited for; the first step says who began it. None in runs of older versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedStep:
    """What the forecast says of one topology at one load."""

    topology: str
    load: float
    output_tokens_per_s: float
    ttft_ms_p50: float | None
    """None where no request would have begun and ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    name: str
    started: str
    """UTC, ISO 8601."""
    loadstair_version: str
    command: str
    """What repeats this run."""
    quick: bool
    seed: int
    versions: dict[str, str]
    host: dict[str, Any]
    topologies: dict[str, dict[str, Any]]
    """Fingerprint of each topology: engines, models seen, balancer, flags."""
    visits: tuple[VisitRecord, ...] = ()
    ending: Ending = Ending.RUNNING
    ending_message: str | None = None
    warnings: tuple[str, ...] = field(default=())
    calibration: Calibration | None = None
    """Of the machine that generated the load, made before the run; None where there was none."""
    plan_dir: str | None = None
    """The folder of the plan's file, for a run that is resumed without it."""
    resumed: tuple[str, ...] = ()
    """UTC, ISO 8601: when it went on after an early end."""
    predicted: bool = False
    """Nothing was measured: it is a forecast, in simulated time."""
    notes: tuple[str, ...] = ()
    """How it differs from what the plan says; no reason to doubt it."""
    forecast: tuple[PredictedStep, ...] = ()
    """Of the loads that were measured, as far as they can be foretold; empty in a forecast."""
