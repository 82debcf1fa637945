"""One entry per load: the valid visits of the repeats, pooled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from loadstair.analysis.statistics.bootstrap import (
    Blocked,
    Distribution,
    Measured,
    distribution,
    enough_for,
    enough_to_bound,
    proportion,
    rate_measured,
)
from loadstair.analysis.statistics.estimate import Estimate, Finding, Severity
from loadstair.analysis.step.measure import METRICS, VisitStep
from loadstair.analysis.step.slo import QUANTILES, LimitResult, limit_results, slo_met
from loadstair.analysis.step.verdict import FEW_FOR_P99, few_for_p99, is_valid
from loadstair.plan.model import Slo
from loadstair.samples.record import Outcome

ORDINALS = ("first", "second", "third", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStep:
    """A step of a visit with its own verdict."""

    step: VisitStep
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        return is_valid(self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """What one topology did at one load."""

    load: float
    visits: tuple[JudgedStep, ...]
    """All of them, also those that do not enter."""
    pooled: tuple[VisitStep, ...]
    """The valid ones; all where none is valid: such a step is shown, never used."""
    tokens: Measured
    completions: Measured
    good: Measured | None
    latency: Mapping[str, Distribution]
    """By METRICS, plus "ttft_due"."""
    error_rate: Estimate
    slo: tuple[LimitResult, ...]
    slo_met: bool | None
    reasons: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        return any(visit.valid for visit in self.visits)

    @property
    def failed(self) -> int:
        """Failed requests of any phase in any visit, valid or not."""
        return sum(
            sum(visit.step.outcomes_all.values())
            - visit.step.outcomes_all[Outcome.OK]
            - visit.step.outcomes_all[Outcome.KILLED]
            for visit in self.visits
        )

    def percentile(self, metric: str, name: str) -> Measured | None:
        return self.latency[metric].quantiles.get(QUANTILES[name])


def pool_load(visits: tuple[JudgedStep, ...], slo: Slo | None, rng: np.random.Generator) -> LoadStep:
    """`visits` of one load, at least one."""
    valid = [visit for visit in visits if visit.valid]
    # A repeat may have taken the step twice: the later one counts where both are alike.
    by_repeat = {visit.step.visit.repeat: visit.step for visit in (valid or visits)}
    steps = tuple(by_repeat.values())
    latency = {
        metric: distribution(
            {r: step.latency_ms[metric] for r, step in by_repeat.items()}, list(QUANTILES.values()), rng
        )
        for metric in (*METRICS, "ttft_due")
    }
    good = {repeat: step.good for repeat, step in by_repeat.items() if step.good is not None}
    error_rate = proportion(sum(step.failed for step in steps), sum(step.finished for step in steps))
    values_ms = {metric: [_waited_ms(step, metric) for step in steps] for metric in METRICS}
    limits = () if slo is None else limit_results(slo, values_ms, error_rate.value)
    return LoadStep(
        load=visits[0].step.record.load,
        visits=visits,
        pooled=steps,
        tokens=rate_measured({r: step.tokens for r, step in by_repeat.items()}, rng),
        completions=rate_measured({r: step.completions for r, step in by_repeat.items()}, rng),
        good=rate_measured(good, rng) if good else None,
        latency=latency,
        error_rate=error_rate,
        slo=limits,
        slo_met=slo_met(limits),
        reasons=() if valid else _told_once(visits, Severity.INVALID),
        warnings=(*_excluded(visits, bool(valid)), *_warnings(visits, latency["ttft"].n), *_unchecked(limits)),
    )


def _waited_ms(step: VisitStep, metric: str) -> Blocked:
    """What the SLO is held against: in an open loop a user has waited since the request was due."""
    since_due = step.latency_ms.get(f"{metric}_due")
    return since_due if since_due is not None and since_due.n else step.latency_ms[metric]


def latency_estimates(step: LoadStep, metric: str) -> dict[str, Estimate]:
    """mean, p50, p90, p99 in ms; a percentile with too few samples is nothing, with a finding."""
    told = step.latency[metric]
    result = {"mean": Estimate.nothing() if told.mean is None else told.mean.estimate()}
    for name, quantile in QUANTILES.items():
        number = told.quantiles.get(quantile)
        if number is None:
            result[name] = Estimate.nothing(told.n, (_too_few(name, told.n),))
        else:
            result[name] = number.estimate(() if number.bounded else (_unbounded(name, told),))
    return result


def _unbounded(percentile: str, told: Distribution) -> Finding:
    needed = enough_to_bound(QUANTILES[percentile])
    message = f"a {percentile} needs {needed} samples for an interval, there are {told.n}: lengthen load.hold_s"
    if told.n >= needed:
        message = (
            f"a {percentile} needs {needed} independent samples for an interval; there are {told.n}, which resemble "
            f"their neighbours and are worth {told.effective:.0f}: lengthen load.hold_s"
        )
    return Finding.info("samples.interval", message)


def _too_few(percentile: str, n: int) -> Finding:
    needed = enough_for(QUANTILES[percentile])
    return Finding.warning(
        "samples.percentile",
        f"a {percentile} needs {needed} samples, there are {n}: lengthen load.hold_s or add repeats",
    )


def _told_once(visits: tuple[JudgedStep, ...], severity: Severity) -> tuple[Finding, ...]:
    """Each finding once, in its first visit's words, with the repeats it is from unless all have it."""
    first: dict[str, Finding] = {}
    repeats: dict[str, list[int]] = {}
    for visit in visits:
        for finding in visit.findings:
            if finding.severity is severity:
                first.setdefault(finding.id, finding)
                repeats.setdefault(finding.id, []).append(visit.step.visit.repeat)
    return tuple(
        finding
        if len(repeats[id_]) == len(visits)
        else replace(finding, message=f"repeat {', '.join(map(str, repeats[id_]))}: {finding.message}")
        for id_, finding in first.items()
    )


def _excluded(visits: tuple[JudgedStep, ...], any_valid: bool) -> tuple[Finding, ...]:
    """The invalid visits of a step that has valid ones too."""
    if not any_valid:
        return ()
    return tuple(
        Finding.warning(
            "repeat.excluded",
            f"{_try(visit, visits)} is left out: "
            + "; ".join(finding.message for finding in visit.findings if finding.severity is Severity.INVALID),
        )
        for visit in visits
        if not visit.valid
    )


def _try(visit: JudgedStep, visits: tuple[JudgedStep, ...]) -> str:
    """A repeat whose step was taken more than once has several tries."""
    of_repeat = [one for one in visits if one.step.visit.repeat == visit.step.visit.repeat]
    if len(of_repeat) == 1:
        return f"repeat {visit.step.visit.repeat}"
    which = next(place for place, one in enumerate(of_repeat) if one is visit)
    return f"the {ORDINALS[min(which, len(ORDINALS) - 1)]} try of repeat {visit.step.visit.repeat}"


def _unchecked(limits: tuple[LimitResult, ...]) -> tuple[Finding, ...]:
    names = [limit.name for limit in limits if limit.met is None]
    if not names:
        return ()
    message = f"too few samples to check the SLO's {', '.join(names)}: lengthen load.hold_s or add repeats"
    return (Finding.warning("slo.unchecked", message),)


def _warnings(visits: tuple[JudgedStep, ...], pooled_requests: int) -> tuple[Finding, ...]:
    """Those of the visits; too few samples for a p99 only if pooling did not cure it, with the pooled number."""
    told = tuple(finding for finding in _told_once(visits, Severity.WARNING) if finding.id != FEW_FOR_P99)
    return told if pooled_requests >= enough_for(0.99) else (*told, few_for_p99(pooled_requests))
