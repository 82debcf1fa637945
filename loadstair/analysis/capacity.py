"""Where one topology saturates, from the valid steps of its staircase.

Loads are those measured: nothing here lies between two steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadstair.analysis.bootstrap import Measured
from loadstair.analysis.estimate import Estimate, Finding, Severity, inverse, scaled
from loadstair.analysis.pool import LoadStep
from loadstair.analysis.verdict import REQUESTS_FAILED
from loadstair.plan.model import Gpus

KNEE_GAIN_MIN = 1.3
"""Throughput gained per doubling of the load below which more load is not worth it; 2.0 would be linear scaling."""
DOUBLED = 2.0
CUT_OFF = "capacity.cut_off"
"""The finding that says that invalid steps lie above the best valid one."""
S_PER_HOUR = 3600.0
MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Loads are None where the staircase does not show them; `findings` say why."""

    output_tokens_per_s: Estimate
    """Saturation: the highest throughput of a valid step."""
    requests_per_s: Estimate
    """At the same step."""
    goodput_rps: Estimate
    """The highest of a valid step, at `goodput_load`."""
    saturation_load: float | None
    goodput_load: float | None
    knee_load: float | None
    """The last step before the gain per doubling of the load falls below KNEE_GAIN_MIN."""
    latency_doubling_load: float | None
    """First step whose median e2e is above twice that of the first step."""
    failure_load: float | None
    """First step, valid or not, with a failed request."""
    slo_capacity_load: float | None
    """Highest step up to which every step met the SLO's limits."""
    recommended_load: float | None
    """Highest step whose every request succeeded and which met the SLO; without an SLO: before latency doubles."""
    output_tokens_per_s_per_gpu: Estimate
    usd_per_million_output_tokens: Estimate
    usd_per_million_requests: Estimate
    findings: tuple[Finding, ...]

    @property
    def cut_off(self) -> bool:
        """Invalid steps lie above the best valid one: the real capacity may be higher."""
        return any(finding.id == CUT_OFF for finding in self.findings)


def capacity(steps: Sequence[LoadStep], gpus: Gpus | None) -> Capacity:
    """`steps` of one topology in the order of their load."""
    valid = [step for step in steps if step.valid]
    saturation = max(valid, key=lambda step: step.tokens.value, default=None)
    best = max((step for step in valid if step.good is not None), key=_goodput, default=None)
    tokens = _estimate(saturation.tokens if saturation else None)
    requests = _estimate(saturation.completions if saturation else None)
    knee, doubling, recommended = knee_load(valid), latency_doubling_load(valid), recommended_load(valid)
    usd_per_s = None if gpus is None or gpus.usd_per_hour is None else gpus.usd_per_hour * gpus.count / S_PER_HOUR
    return Capacity(
        output_tokens_per_s=tokens,
        requests_per_s=requests,
        goodput_rps=_estimate(best.good if best else None),
        saturation_load=None if saturation is None else saturation.load,
        goodput_load=None if best is None else best.load,
        knee_load=knee,
        latency_doubling_load=doubling,
        failure_load=next((step.load for step in steps if step.failed), None),
        slo_capacity_load=_last_before_first_failure(valid, lambda step: step.slo_met),
        recommended_load=recommended,
        output_tokens_per_s_per_gpu=Estimate.nothing() if gpus is None else scaled(tokens, 1 / gpus.count),
        usd_per_million_output_tokens=Estimate.nothing() if usd_per_s is None else inverse(tokens, usd_per_s * MILLION),
        usd_per_million_requests=Estimate.nothing() if usd_per_s is None else inverse(requests, usd_per_s * MILLION),
        findings=(*_findings(valid, saturation, knee, doubling, recommended), *_cut_off(steps, saturation)),
    )


def knee_load(valid: Sequence[LoadStep]) -> float | None:
    """The last step before the gain per doubling of the load falls below KNEE_GAIN_MIN; None if it never does."""
    for before, after in pairwise(valid):
        if before.tokens.value <= 0:
            continue
        gain = (after.tokens.value / before.tokens.value) ** (1 / math.log2(after.load / before.load))
        if gain < KNEE_GAIN_MIN:
            return before.load
    return None


def latency_doubling_load(valid: Sequence[LoadStep]) -> float | None:
    """The baseline is the first valid step's median e2e."""
    medians = [(step.load, step.percentile("e2e", "p50")) for step in valid]
    told = [(load, median.value) for load, median in medians if median is not None]
    return next((load for load, value in told if value > DOUBLED * told[0][1]), None)


def recommended_load(valid: Sequence[LoadStep]) -> float | None:
    if any(step.slo for step in valid):
        good = [step.load for step in valid if step.slo_met and not step.failed]
    else:
        doubling = latency_doubling_load(valid)
        good = [step.load for step in valid if not step.failed and (doubling is None or step.load < doubling)]
    return max(good, default=None)


def _last_before_first_failure(valid: Sequence[LoadStep], met: Callable[[LoadStep], bool | None]) -> float | None:
    last = None
    for step in valid:
        if not met(step):
            break
        last = step.load
    return last


def _goodput(step: LoadStep) -> float:
    return -1.0 if step.good is None else step.good.value


def _estimate(number: Measured | None) -> Estimate:
    return Estimate.nothing() if number is None else number.estimate()


def _cut_off(steps: Sequence[LoadStep], saturation: LoadStep | None) -> tuple[Finding, ...]:
    """Invalid steps above the best valid one may hide a higher throughput.

    Not so where a valid step above it already has less, or where the topology itself failed its requests.
    """
    if saturation is None or any(step.valid and step.load > saturation.load for step in steps):
        return ()
    hidden = [step.load for step in steps if step.load > saturation.load and not _failed_only(step)]
    if not hidden:
        return ()
    loads = ", ".join(f"{load:g}" for load in hidden)
    message = f"invalid at load {loads}, above its best valid step: the capacity may lie higher; repeat those steps"
    return (Finding(id=CUT_OFF, severity=Severity.WARNING, message=message),)


def _failed_only(step: LoadStep) -> bool:
    return {finding.id for finding in step.reasons} == {REQUESTS_FAILED}


def _findings(
    valid: Sequence[LoadStep],
    saturation: LoadStep | None,
    knee: float | None,
    doubling: float | None,
    recommended: float | None,
) -> tuple[Finding, ...]:
    def info(id_: str, message: str) -> Finding:
        return Finding(id=id_, severity=Severity.INFO, message=message)

    if saturation is None:
        return (info("capacity.none", "no valid step: nothing can be said of its capacity"),)
    findings = []
    if knee is None:
        findings.append(
            info(
                "capacity.no_knee",
                f"throughput still grew with every step up to load {valid[-1].load:g}: add higher load.steps",
            ),
        )
    if saturation is valid[-1] and len(valid) > 1:
        findings.append(
            info(
                "capacity.not_reached",
                f"the highest throughput is that of the highest load, {saturation.load:g}: the plateau may lie above",
            ),
        )
    if doubling is None:
        findings.append(info("capacity.no_doubling", f"median latency did not double up to load {valid[-1].load:g}"))
    if recommended is None:
        findings.append(
            info(
                "capacity.no_recommendation",
                "no step had every request succeed within the SLO: start lower or relax slo",
            )
        )
    return tuple(findings)
