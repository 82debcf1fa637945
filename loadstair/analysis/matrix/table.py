"""A matrix run: named tests, each a few bursts, held against a baseline of single requests with the same lengths.

The runs of a test are the units of its intervals: the requests of one burst share their batches and queues, so they
are one observation, not many. With three runs Student's t has two degrees of freedom, and intervals are wide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from loadstair.analysis.statistics.bootstrap import DRAWS, Measured, between_draws, measured, ratio
from loadstair.analysis.statistics.estimate import Estimate, Finding, Severity
from loadstair.analysis.step.failures import MS_PER_S, Failure, failures
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import JudgedStep
from loadstair.plan.matrix import baseline_label
from loadstair.plan.model import Matrix, MatrixTest
from loadstair.samples.frame import Samples
from loadstair.samples.record import Outcome
from loadstair.samples.runrecord import RunRecord

METRICS = ("ttft", "tpot", "e2e")

BURST_RULES = (
    "cache.", "ceiling.", "clock.", "counts.", "generator.", "input.", "simserver.", "stream.", "tokens.", "workers.",
)  # fmt: skip
"""How the ids begin of the findings that hold for a burst: its books, clock, generator and lengths. A burst is no
steady load, has few requests by intent, and its failures are its result; the rules for those do not bind it."""

IDLE_USERS = "generator.idle_users"
"""In a burst users stand idle when they have their answer."""


class Status(StrEnum):
    SUCCESS = "success"
    """Every request was answered in time."""
    WARNING = "warning"
    """So it was, but the mean latency is above `warn_factor` times the baseline's."""
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """The bursts of one test, or of a baseline, over all runs and visits."""

    judged: tuple[JudgedStep, ...]
    """All of them."""
    used: tuple[JudgedStep, ...]
    """The valid ones; all where none is valid: such numbers are shown, never used."""
    means: Mapping[str, Measured | None]
    """By METRICS, ms; None where no request was answered."""
    tokens_per_s: Measured | None
    """Tokens that arrived, by the time from a burst's first dispatch to its last end."""
    reasons: tuple[Finding, ...]
    """Why bursts are invalid."""

    @property
    def valid(self) -> bool:
        return any(one.valid for one in self.judged)

    @property
    def verdict(self) -> str:
        return "unmeasured" if not self.judged else "valid" if self.valid else "invalid"

    @property
    def requests(self) -> int:
        return sum(sum(one.step.outcomes.values()) for one in self.judged)

    @property
    def answered(self) -> int:
        return sum(one.step.outcomes[Outcome.OK] for one in self.judged)

    @property
    def slowest_ms(self) -> float | None:
        return max((float(v.max()) for one in self.judged if len(v := one.step.latency_ms["e2e"].values)), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    test: MatrixTest
    bursts: Bursts
    failures: tuple[Failure, ...]
    latency_ratio: Estimate
    """Mean latency over the baseline's; nothing where either is unknown or invalid."""
    status: Status | None
    """None where no burst is valid, unless one failed; and where it was never measured."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixResult:
    """Of one topology."""

    tests: tuple[TestResult, ...]
    """In the plan's order."""
    baselines: Mapping[str, Bursts]
    """By label."""

    @property
    def has_valid_test(self) -> bool:
        return any(one.bursts.valid for one in self.tests)


def matrix_result(
    matrix: Matrix, judged: Sequence[JudgedStep], samples: Samples, run: RunRecord, rng: np.random.Generator
) -> MatrixResult:
    """`judged`: every burst of one topology's visits; `samples` of the whole run."""
    by_label: dict[str, list[JudgedStep]] = {}
    for one in judged:
        by_label.setdefault(one.step.record.test or "", []).append(_as_burst(one))
    labels = dict.fromkeys(baseline_label(test, matrix) for test in matrix.tests)
    baselines = {label: _pooled(by_label.get(label, []), rng, alone=True) for label in labels}
    return MatrixResult(
        tests=tuple(
            _test(test, by_label.get(test.id, []), baselines[baseline_label(test, matrix)], matrix, samples, run, rng)
            for test in matrix.tests
        ),
        baselines=baselines,
    )


def _as_burst(one: JudgedStep) -> JudgedStep:
    kept = (f for f in one.findings if f.id.startswith(BURST_RULES) and f.id != IDLE_USERS)
    return JudgedStep(step=one.step, findings=tuple(kept))


def _pooled(judged: Sequence[JudgedStep], rng: np.random.Generator, *, alone: bool = False) -> Bursts:
    """`alone`: its requests came one after the other, so that each is a unit of its own."""
    used = tuple(one for one in judged if one.valid) or tuple(judged)
    return Bursts(
        judged=tuple(judged),
        used=used,
        means={metric: _mean(used, metric, alone, rng) for metric in METRICS},
        tokens_per_s=_rate(used, rng),
        reasons=_told_once(judged, Severity.INVALID),
    )


def _mean(used: Sequence[JudgedStep], metric: str, alone: bool, rng: np.random.Generator) -> Measured | None:
    parts = [(one.step.visit.repeat, one.step.latency_ms[metric].each()) for one in used]
    if alone:
        parts = [(repeat, value) for repeat, values in parts for value in np.split(values, len(values) or 1)]
    parts = [(repeat, values) for repeat, values in parts if len(values)]
    if not parts:
        return None
    pooled = np.concatenate([values for _, values in parts])
    repeats = dict.fromkeys(repeat for repeat, _ in parts)
    return _from_units(
        value=float(pooled.mean()),
        units=[float(values.mean()) for _, values in parts],
        by_repeat={r: float(np.concatenate([v for repeat, v in parts if repeat == r]).mean()) for r in repeats},
        n=len(pooled),
        rng=rng,
    )


def _rate(used: Sequence[JudgedStep], rng: np.random.Generator) -> Measured | None:
    rates = [(one.step.visit.repeat, one.step.tokens.mean) for one in used]
    if not rates:
        return None
    return _from_units(
        value=float(np.mean([rate for _, rate in rates])),
        units=[rate for _, rate in rates],
        by_repeat={r: float(np.mean([rate for repeat, rate in rates if repeat == r])) for r, _ in rates},
        n=sum(one.step.tokens.n for one in used),
        rng=rng,
    )


def _from_units(
    *, value: float, units: Sequence[float], by_repeat: Mapping[int, float], n: int, rng: np.random.Generator
) -> Measured:
    within = between_draws(value, units, rng)
    if within is None:
        alone: FloatArray = np.full(DRAWS, value)
        return Measured(value=value, by_repeat=by_repeat, within=alone, draws=alone, n=n, bounded=False)
    return measured(value=value, by_repeat=by_repeat, within=within, n=n, rng=rng)


def _told_once(judged: Sequence[JudgedStep], severity: Severity) -> tuple[Finding, ...]:
    """Each once, in its first burst's words."""
    first: dict[str, Finding] = {}
    for finding in (finding for one in judged for finding in one.findings if finding.severity is severity):
        first.setdefault(finding.id, finding)
    return tuple(first.values())


def _test(
    test: MatrixTest,
    judged: Sequence[JudgedStep],
    baseline: Bursts,
    matrix: Matrix,
    samples: Samples,
    run: RunRecord,
    rng: np.random.Generator,
) -> TestResult:
    bursts = _pooled(judged, rng)
    failed = failures(bursts.judged, samples, run, matrix.latency_s_max)
    times = _latency_ratio(bursts, baseline, rng)
    return TestResult(
        test=test,
        bursts=bursts,
        failures=failed,
        latency_ratio=times,
        status=_status(bursts, failed, times, matrix.warn_factor),
        notes=tuple(_notes(bursts, baseline, times, matrix)),
    )


def _latency_ratio(bursts: Bursts, baseline: Bursts, rng: np.random.Generator) -> Estimate:
    mine, single = bursts.means["e2e"], baseline.means["e2e"]
    if mine is None or single is None or not (bursts.valid and baseline.valid) or single.value <= 0:
        return Estimate.nothing()
    bounded = ratio(mine, single, rng)
    if bounded is None:
        return Estimate(value=mine.value / single.value, low=None, high=None, n=mine.n)
    low_high = bounded.estimate()
    return Estimate(value=low_high.value, low=low_high.low, high=low_high.high, n=mine.n)


def _status(bursts: Bursts, failed: tuple[Failure, ...], times: Estimate, warn_factor: float) -> Status | None:
    if failed:
        return Status.FAILURE
    if not bursts.valid:
        return None
    return Status.WARNING if times.value is not None and times.value > warn_factor else Status.SUCCESS


def _notes(bursts: Bursts, baseline: Bursts, times: Estimate, matrix: Matrix) -> list[str]:
    if not bursts.judged:
        return ["never measured"]
    notes = []
    left_out = len(bursts.judged) - sum(one.valid for one in bursts.judged)
    if left_out and bursts.valid:
        notes.append(f"{left_out} of {len(bursts.judged)} bursts are invalid and left out")
    if not baseline.valid:
        notes.append("no valid baseline of these lengths: whether latency doubled is not known")
    factor = matrix.warn_factor
    if times.low is not None and times.high is not None and times.low <= factor < times.high:
        notes.append(
            f"{times.value:.2f} times the baseline, with an interval of {times.low:.2f} to {times.high:.2f}: the runs "
            f"cannot tell on which side of {factor:g} it lies"
        )
    slowest = bursts.slowest_ms
    if slowest is not None and bursts.answered < bursts.requests and slowest < matrix.latency_s_max * MS_PER_S:
        notes.append("latency is of the answered requests alone")
    return [*notes, *(finding.message for finding in _told_once(bursts.used, Severity.WARNING))]
