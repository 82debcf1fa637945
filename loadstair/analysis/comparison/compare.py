"""Two topologies side by side: ratios other/first with intervals, and where the sign of the difference changes.

A difference is claimed only where its interval excludes none (`claim`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from loadstair.analysis.comparison.arm import Difference
from loadstair.analysis.statistics.bootstrap import Measured, Ratio, interval, ratio
from loadstair.analysis.statistics.estimate import Estimate, Finding, inverse, scaled
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.model import Gpus

ByLoad = Mapping[float, Measured | None]

CROSSING_SHARE_MIN = 0.95
"""Share of the draws in which the curves must cross for the crossing to be certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepComparison:
    load: float
    throughput_ratio: Estimate
    requests_ratio: Estimate
    ttft_p50_ratio: Estimate
    itl_p50_ratio: Estimate
    e2e_p50_ratio: Estimate
    throughput_per_gpu_ratio: Estimate
    usd_per_million_output_tokens_ratio: Estimate
    output_tokens_per_joule_ratio: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ratios are other/first; at capacity unless of a step."""

    first: str
    other: str
    throughput_ratio: Estimate
    """Each side at the step of its own highest throughput. Nothing, as everything at capacity, where the steps above
    that are invalid on either side: the ratio could be anything."""
    goodput_ratio: Estimate
    throughput_per_gpu_ratio: Estimate
    usd_per_million_output_tokens_ratio: Estimate
    """Below 1: other is cheaper."""
    output_tokens_per_joule_ratio: Estimate
    """Each side at the step of its own highest throughput, where the power of both was measured."""
    steps: tuple[StepComparison, ...]
    """Of the loads at which both sides are valid."""
    throughput_crossover_load: Estimate
    latency_crossover_load: Estimate
    """Of median e2e."""
    caveat: str | None
    """The gravest of what the two should share and do not, in a few words; None where they share it all."""
    unequal: bool
    """Compared only because the plan says so: their GPUs, model or precision differ."""
    findings: tuple[Finding, ...]
    """What they do not share first, with what it may do to the answer."""


def claim(compared: Estimate) -> Literal["higher", "lower"] | None:
    """What may be said of a ratio; None inside the noise."""
    if compared.low is not None and compared.low > 1:
        return "higher"
    if compared.high is not None and compared.high < 1:
        return "lower"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    name: str
    steps: Sequence[LoadStep]
    gpus: Gpus | None
    cut_off: bool
    """Its capacity may be higher than what was measured."""
    per_joule: ByLoad
    """Output tokens for each joule of its GPUs; empty where their power was not measured."""


def compare(
    first: Side, other: Side, rng: np.random.Generator, differences: Sequence[Difference] = (), *, unequal: bool = False
) -> Comparison:
    """`differences`: of what the two should share, the gravest first."""
    ours = {step.load: step for step in first.steps if step.valid}
    theirs = {step.load: step for step in other.steps if step.valid}
    loads = sorted(ours.keys() & theirs.keys())
    cut_off = [side.name for side in (first, other) if side.cut_off]
    throughput = {load: ratio(theirs[load].tokens, ours[load].tokens, rng) for load in loads}
    peak = goodput = None
    if not cut_off:
        peak = _at_best(_tokens(ours), _tokens(theirs), throughput, rng)
        goodput = _at_best(_good(ours), _good(theirs), {}, rng)
    e2e = {load: _percentile_ratio(theirs[load], ours[load], "e2e", rng) for load in loads}
    per_joule = {load: _joule_ratio(first.per_joule.get(load), other.per_joule.get(load), rng) for load in loads}
    by_tokens, token_findings = crossover(throughput, "throughput", rng)
    by_e2e, e2e_findings = crossover(e2e, "median latency", rng)
    return Comparison(
        first=first.name,
        other=other.name,
        throughput_ratio=_estimate(peak),
        goodput_ratio=_estimate(goodput),
        throughput_per_gpu_ratio=_per_gpu(_estimate(peak), first, other),
        usd_per_million_output_tokens_ratio=_usd(_estimate(peak), first, other),
        output_tokens_per_joule_ratio=Estimate.nothing()
        if cut_off
        else _estimate(_joules_at_best(first, ours, other, theirs, per_joule, rng)),
        steps=tuple(
            StepComparison(
                load=load,
                throughput_ratio=_estimate(throughput[load]),
                requests_ratio=_estimate(ratio(theirs[load].completions, ours[load].completions, rng)),
                ttft_p50_ratio=_estimate(_percentile_ratio(theirs[load], ours[load], "ttft", rng)),
                itl_p50_ratio=_estimate(_percentile_ratio(theirs[load], ours[load], "itl", rng)),
                e2e_p50_ratio=_estimate(e2e[load]),
                throughput_per_gpu_ratio=_per_gpu(_estimate(throughput[load]), first, other),
                usd_per_million_output_tokens_ratio=_usd(_estimate(throughput[load]), first, other),
                output_tokens_per_joule_ratio=_estimate(per_joule[load]),
            )
            for load in loads
        ),
        throughput_crossover_load=by_tokens,
        latency_crossover_load=by_e2e,
        caveat=next((one.brief for one in differences if one.brief is not None), None),
        unequal=unequal,
        findings=(*(one.finding for one in differences), *_no_capacity(cut_off), *token_findings, *e2e_findings),
    )


def crossover(
    ratios: dict[float, Ratio | None],
    what: str,
    rng: np.random.Generator,
) -> tuple[Estimate, tuple[Finding, ...]]:
    """The load where log(ratio) changes its sign, linear in log(load) between two steps; the last one if several.

    Its interval comes from the draws of the ratios; the loads' draws are independent of each other.
    """
    told = [(load, one) for load, one in ratios.items() if one is not None]
    if len(told) < 2:
        return Estimate.nothing(len(told)), (
            Finding.info("crossover.few", f"fewer than two loads valid on both sides: no crossover of {what}"),
        )
    log_loads = np.log(np.array([load for load, _ in told]))
    point = _crossing(log_loads, np.log(np.array([[one.value for _, one in told]])))[0]
    if math.isnan(point):
        message = f"the difference in {what} keeps its sign from load {told[0][0]:g} to {told[-1][0]:g}: no crossover"
        return Estimate.nothing(len(told)), (Finding.info("crossover.none", message),)
    # Shuffled, so that the n-th draws of two loads do not belong together by their order.
    draws = np.stack([rng.permutation(one.log_draws) for _, one in told], axis=1)
    crossings = _crossing(log_loads, draws)
    found = crossings[~np.isnan(crossings)]
    value = math.exp(point)
    if len(found) < CROSSING_SHARE_MIN * len(crossings):
        message = (
            f"a crossover of {what} near load {value:.3g} shows in {len(found) / len(crossings):.0%} of the resamples "
            "only: it may be noise; add repeats"
        )
        return Estimate(value=value, low=None, high=None, n=len(told)), (Finding.warning("crossover.unsure", message),)
    low, high = (math.exp(end) for end in interval(found))
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=len(told)), _several(told, what)


def _crossing(log_loads: FloatArray, log_ratios: FloatArray) -> FloatArray:
    """Shape [draws] of log loads; NaN for a draw without a change of sign. `log_ratios` has shape [draws, loads]."""
    before, after = log_ratios[:, :-1], log_ratios[:, 1:]
    changes = (before < 0) != (after < 0)
    last = changes.shape[1] - 1 - changes[:, ::-1].argmax(axis=1)
    rows = np.arange(len(log_ratios))
    left, right = before[rows, last], after[rows, last]
    span = np.where(left == right, 1.0, left - right)
    position = log_loads[last] + left / span * (log_loads[last + 1] - log_loads[last])
    return np.where(changes.any(axis=1), position, np.nan)


def _several(told: Sequence[tuple[float, Ratio]], what: str) -> tuple[Finding, ...]:
    """Where the sign changes more than once beyond the noise: one load cannot tell it."""
    claimed = [(load, said) for load, one in told if (said := claim(one.estimate())) is not None]
    changes = [(one[0], other[0]) for one, other in pairwise(claimed) if one[1] != other[1]]
    if len(changes) < 2:
        return ()
    between = ", ".join(f"between {low:g} and {high:g}" for low, high in changes)
    message = f"the difference in {what} changes its sign {len(changes)} times ({between}): the last one is given"
    return (Finding.warning("crossover.several", message),)


def _no_capacity(cut_off: list[str]) -> tuple[Finding, ...]:
    if not cut_off:
        return ()
    message = f"no comparison at capacity: the steps above the best of {' and '.join(cut_off)} are invalid; repeat them"
    return (Finding.warning("compare.cut_off", message),)


def _tokens(steps: Mapping[float, LoadStep]) -> ByLoad:
    return {load: step.tokens for load, step in steps.items()}


def _good(steps: Mapping[float, LoadStep]) -> ByLoad:
    return {load: step.good for load, step in steps.items()}


def _at_best(
    first: ByLoad, other: ByLoad, known: Mapping[float, Ratio | None], rng: np.random.Generator
) -> Ratio | None:
    """Each side at its highest value. Where both reach it at one load, the ratio `known` for that load: two sets of
    draws would give one comparison two intervals."""
    ours, theirs = _best(first), _best(other)
    if ours is None or theirs is None:
        return None
    if ours[0] == theirs[0] and ours[0] in known:
        return known[ours[0]]
    return ratio(theirs[1], ours[1], rng)


def _best(values: ByLoad) -> tuple[float, Measured] | None:
    measured = [(load, one) for load, one in values.items() if one is not None]
    return max(measured, key=lambda entry: entry[1].value, default=None)


def _percentile_ratio(other: LoadStep, first: LoadStep, metric: str, rng: np.random.Generator) -> Ratio | None:
    theirs, ours = other.percentile(metric, "p50"), first.percentile(metric, "p50")
    return None if theirs is None or ours is None else ratio(theirs, ours, rng)


def _known_ratio(other: Gpus | None, first: Gpus | None, *, per_dollar: bool) -> float | None:
    """other/first of the number of GPUs, or of dollars per hour; None where one is unknown or free of charge."""
    if other is None or first is None:
        return None
    if not per_dollar:
        return other.count / first.count
    if not other.usd_per_hour or not first.usd_per_hour:
        return None
    return other.usd_per_hour * other.count / (first.usd_per_hour * first.count)


def _per_gpu(throughput: Estimate, first: Side, other: Side) -> Estimate:
    gpus = _known_ratio(other.gpus, first.gpus, per_dollar=False)
    return Estimate.nothing() if gpus is None else scaled(throughput, 1 / gpus)


def _usd(throughput: Estimate, first: Side, other: Side) -> Estimate:
    """Of the dollars for the same tokens."""
    usd = _known_ratio(other.gpus, first.gpus, per_dollar=True)
    return Estimate.nothing() if usd is None else inverse(throughput, usd)


def _joule_ratio(first: Measured | None, other: Measured | None, rng: np.random.Generator) -> Ratio | None:
    return None if first is None or other is None else ratio(other, first, rng)


def _joules_at_best(
    first: Side,
    ours: Mapping[float, LoadStep],
    other: Side,
    theirs: Mapping[float, LoadStep],
    known: Mapping[float, Ratio | None],
    rng: np.random.Generator,
) -> Ratio | None:
    mine, its = _best(_tokens(ours)), _best(_tokens(theirs))
    if mine is None or its is None:
        return None
    if mine[0] == its[0]:
        return known.get(mine[0])
    return _joule_ratio(first.per_joule.get(mine[0]), other.per_joule.get(its[0]), rng)


def _estimate(one: Ratio | None) -> Estimate:
    return Estimate.nothing() if one is None else one.estimate()
