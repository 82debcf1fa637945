"""Where one topology saturates, from the valid steps of its staircase.

Loads are those measured: nothing here lies between two steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.staircase.curve import KNEE_GAIN_MIN, LOG2_KNEE_GAIN, curve_of
from loadstair.analysis.staircase.knee import Fits, fit_laws
from loadstair.analysis.staircase.slo_capacity import slo_capacity
from loadstair.analysis.statistics.bootstrap import Measured, interval, ratio
from loadstair.analysis.statistics.estimate import Estimate, Finding, inverse, scaled
from loadstair.analysis.step.pool import LoadStep
from loadstair.analysis.step.verdict import FEW_SAMPLES, REQUESTS_FAILED
from loadstair.plan.model import Gpus
from loadstair.samples.record import Outcome

DOUBLED = 2.0
CUT_OFF = "capacity.cut_off"
"""The finding that says that invalid steps lie above the best valid one."""
NO_VALID_STEP = Finding.info("capacity.none", "no valid step: nothing can be said of its capacity")
GONE = (Outcome.REFUSED, Outcome.DISCONNECTED)
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
    """The last step before the gain per doubling of the load falls below KNEE_GAIN_MIN and stays there."""
    fits: Fits
    """Laws, which place the knee between the steps: `fits.knee()`."""
    latency_doubling_load: float | None
    """First valid step whose median e2e is above twice that of the first step."""
    slo_violated_load: float | None
    """First valid step that is known to violate a limit of the SLO."""
    slo_capacity_load: float | None
    """Highest step up to which every step is valid and known to meet all of the SLO's limits."""
    slo_capacity: Estimate
    """Between that step and the first that violates the SLO: where the limit is reached."""
    recommended_load: float | None
    """Highest step up to which every step is valid, without a failed request and within the SLO as far as that is
    known; without an SLO: before latency doubles."""
    output_tokens_per_s_per_gpu: Estimate
    usd_per_million_output_tokens: Estimate
    usd_per_million_requests: Estimate
    findings: tuple[Finding, ...]

    @property
    def cut_off(self) -> bool:
        """Invalid steps lie above the best valid one: the real capacity may be higher."""
        return any(finding.id == CUT_OFF for finding in self.findings)


def capacity(steps: Sequence[LoadStep], gpus: Gpus | None, rng: np.random.Generator) -> Capacity:
    """`steps` of one topology in the order of their load."""
    valid = [step for step in steps if step.valid]
    saturation = max(valid, key=lambda step: step.tokens.value, default=None)
    best = max((step for step in valid if step.good is not None), key=_goodput, default=None)
    tokens = _estimate(saturation.tokens if saturation else None)
    requests = _estimate(saturation.completions if saturation else None)
    knee, knee_findings = knee_load(valid, rng)
    apart = rng.spawn(1)[0]
    curve = curve_of(valid, apart)
    fits = Fits() if curve is None else fit_laws(curve)
    doubling, doubling_findings = latency_doubling_load(steps)
    recommended, recommended_findings = recommended_load(steps, doubling)
    usd_per_s = None if gpus is None or gpus.usd_per_hour is None else gpus.usd_per_hour * gpus.count / S_PER_HOUR
    findings = (*knee_findings, *_not_reached(valid, saturation), *doubling_findings, *recommended_findings)
    return Capacity(
        output_tokens_per_s=tokens,
        requests_per_s=requests,
        goodput_rps=_estimate(best.good if best else None),
        saturation_load=None if saturation is None else saturation.load,
        goodput_load=None if best is None else best.load,
        knee_load=knee,
        fits=fits,
        latency_doubling_load=doubling,
        slo_violated_load=next((step.load for step in valid if step.slo_met is False), None),
        slo_capacity_load=_last_of_first(steps, lambda step: step.slo_met is True),
        slo_capacity=slo_capacity(steps, apart),
        recommended_load=recommended,
        output_tokens_per_s_per_gpu=Estimate.nothing() if gpus is None else scaled(tokens, 1 / gpus.count),
        usd_per_million_output_tokens=Estimate.nothing() if usd_per_s is None else inverse(tokens, usd_per_s * MILLION),
        usd_per_million_requests=Estimate.nothing() if usd_per_s is None else inverse(requests, usd_per_s * MILLION),
        findings=(*findings, *_cut_off(steps, saturation)) if valid else (NO_VALID_STEP,),
    )


def knee_load(valid: Sequence[LoadStep], rng: np.random.Generator) -> tuple[float | None, tuple[Finding, ...]]:
    """The last step before the gain per doubling of the load falls below KNEE_GAIN_MIN, and stays there.

    The interval of the gain to the next step must lie below it, and the gain to no later step may reach it: one noisy
    step is no knee. None, with the reason, where there is no such step.
    """
    unsure = None
    for position, before in enumerate(valid[:-1]):
        gains = [_log2_gain(before, after, rng) for after in valid[position + 1 :]]
        next_gain = gains[0]
        if next_gain is None or any(gain is not None and gain.value >= LOG2_KNEE_GAIN for gain in gains):
            continue
        if next_gain.high < LOG2_KNEE_GAIN:
            return before.load, ()
        unsure = before.load if unsure is None else unsure
    if not valid:
        return None, ()
    if unsure is not None:
        message = (
            f"throughput seems to level off from load {unsure:g} on, but the interval of its gain still holds "
            f"{KNEE_GAIN_MIN}: add repeats or lengthen load.hold_s"
        )
        return None, (Finding.info("capacity.knee_unsure", message),)
    message = f"throughput still grew with every step up to load {valid[-1].load:g}: add higher load.steps"
    return None, (Finding.info("capacity.no_knee", message),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    """Of throughput per doubling of the load, as log2: 1 is linear scaling."""

    value: float
    high: float


def _log2_gain(before: LoadStep, after: LoadStep, rng: np.random.Generator) -> _Gain | None:
    """None where one of the two has no throughput."""
    gained = ratio(after.tokens, before.tokens, rng)
    if gained is None:
        return None
    log_loads = math.log(after.load / before.load)
    return _Gain(value=math.log(gained.value) / log_loads, high=interval(gained.log_draws)[1] / log_loads)


def latency_doubling_load(steps: Sequence[LoadStep]) -> tuple[float | None, tuple[Finding, ...]]:
    """The first valid step whose median e2e is above twice that of the first step.

    None where none is, and where the first step is invalid: a higher step as the baseline would put it too high.
    """
    baseline = steps[0].percentile("e2e", "p50") if steps and steps[0].valid else None
    if not steps:
        return None, ()
    if baseline is None:
        message = f"no median latency of the first step, load {steps[0].load:g}, to compare with: repeat that step"
        return None, (Finding.info("capacity.no_baseline", message),)
    for step in steps:
        median = step.percentile("e2e", "p50")
        if step.valid and median is not None and median.value > DOUBLED * baseline.value:
            return step.load, ()
    highest = max(step.load for step in steps if step.valid)
    message = f"median latency did not double up to load {highest:g}"
    return None, (Finding.info("capacity.no_doubling", message),)


def recommended_load(steps: Sequence[LoadStep], doubling: float | None) -> tuple[float | None, tuple[Finding, ...]]:
    """The highest step up to which all are valid, no request failed, and no limit of the SLO is known to be violated.

    Without an SLO: and which lies before the latency doubles. Limits that too few samples left unchecked are named.
    """
    has_slo = any(step.slo for step in steps)

    def good(step: LoadStep) -> bool:
        if step.failed:
            return False
        return step.slo_met is not False if has_slo else doubling is None or step.load < doubling

    found = _last_of_first(steps, good)
    if found is None:
        wanted = "within the SLO" if has_slo else "before the latency doubled"
        message = f"the first step is not valid with every request succeeding {wanted}: start lower, or see its reasons"
        return None, (Finding.info("capacity.no_recommendation", message),)
    return found, _unchecked([step for step in steps if step.load <= found])


def _unchecked(recommended: Sequence[LoadStep]) -> tuple[Finding, ...]:
    """The limits that the samples were too few for, by the loads where they were."""
    loads: dict[str, list[str]] = {}
    for step in recommended:
        for limit in step.slo:
            if limit.met is None:
                loads.setdefault(limit.name, []).append(f"{step.load:g}")
    if not loads:
        return ()
    limits = "; ".join(f"{name} at load {', '.join(where)}" for name, where in loads.items())
    message = f"too few samples to check {limits}, taken as met for the recommended load: lengthen load.hold_s"
    return (Finding.warning("capacity.slo_unchecked", message),)


def _last_of_first(steps: Sequence[LoadStep], good: Callable[[LoadStep], bool]) -> float | None:
    """The load of the last step before the first that is invalid or not good; None if that is the first."""
    last = None
    for step in steps:
        if not (step.valid and good(step)):
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
    return (Finding.warning(CUT_OFF, message),)


def _failed_only(step: LoadStep) -> bool:
    """Invalid because the server answered with errors or too late, be it every time: that is its limit. A server that
    could not be reached, or hung up, may simply have died."""
    gone = sum(visit.step.outcomes_all[outcome] for visit in step.visits for outcome in GONE)
    reasons = {finding.id for finding in step.reasons}
    return not gone and REQUESTS_FAILED in reasons and reasons <= {REQUESTS_FAILED, FEW_SAMPLES}


def _not_reached(valid: Sequence[LoadStep], saturation: LoadStep | None) -> tuple[Finding, ...]:
    if saturation is None or saturation is not valid[-1] or len(valid) == 1:
        return ()
    message = f"the highest throughput is that of the highest load, {saturation.load:g}: the plateau may lie above"
    return (Finding.info("capacity.not_reached", message),)
