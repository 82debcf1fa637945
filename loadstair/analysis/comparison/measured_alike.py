"""What was measured of both arms and should have been the same: lengths, repeats, the load generator."""

import math
from collections.abc import Callable, Iterator, Sequence

from loadstair.analysis.comparison.arm import Arm, Difference, both_valid
from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.measure import VisitStep
from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.model import LoadMode, Plan, Workload, load_words

LENGTH_DIFFERENCE_MIN = 0.03
"""Of the mean lengths; a smaller one moves throughput by less than the intervals are wide."""
CACHED_DIFFERENCE_MIN = 0.05
"""Of the prompts' tokens."""
LENGTH_ERRORS_MIN = 3.0
"""How many standard errors of its own a difference of the means must be."""
CV_OF_FREE_ANSWERS = 1.0
"""Coefficient of variation of answers that the model ends where it likes; more than most have."""


def measured_differences(first: Arm, other: Arm, plan: Plan) -> Iterator[Difference]:
    mode = plan.load.mode
    yield from _lengths(first, other, plan.workload)
    yield from _cache(first, other, mode)
    yield from _generator(first, other, mode)
    yield from _repeats(first, other, mode)


def _lengths(first: Arm, other: Arm, workload: Workload) -> Iterator[Difference]:
    output_cv = workload.output_tokens.cv if workload.ignore_eos else CV_OF_FREE_ANSWERS
    for id_, what, of, cv, effect in (
        ("compare.input_tokens", "prompts", _input_tokens, workload.input_tokens.cv, "prefill takes longer"),
        ("compare.output_tokens", "answers", _output_tokens, output_cv, "there are more tokens for each prefill"),
    ):
        ours, our_count = _mean([step for step, _ in both_valid(first, other)], of)
        theirs, their_count = _mean([step for _, step in both_valid(first, other)], of)
        if not ours or not theirs:
            continue
        chance = LENGTH_ERRORS_MIN * cv * math.sqrt(1 / our_count + 1 / their_count)
        difference = max(ours, theirs) / min(ours, theirs) - 1
        if difference < max(LENGTH_DIFFERENCE_MIN, chance):
            continue
        longer, shorter = (other, first) if theirs > ours else (first, other)
        message = (
            f"the {what} of {longer.name} were {difference:.0%} longer than those of {shorter.name} "
            f"({max(ours, theirs):.0f} and {min(ours, theirs):.0f} tokens on average over the loads compared): "
            f"{effect}, and the requests are not the same"
        )
        brief = f"the {what} of {longer.name} were {difference:.0%} longer"
        yield Difference(finding=Finding.warning(id_, message), brief=brief)


def _input_tokens(visit: VisitStep) -> float | None:
    return visit.input_tokens_mean


def _output_tokens(visit: VisitStep) -> float | None:
    return visit.output_tokens_mean


def _mean(steps: Sequence[LoadStep], of: Callable[[VisitStep], float | None]) -> tuple[float | None, int]:
    """With the number of requests, over all of them where the server counted."""
    told = [(value, visit.ok) for step in steps for visit in step.pooled if (value := of(visit)) is not None]
    total = sum(count for _, count in told)
    return (sum(value * count for value, count in told) / total if total else None), total


def _cache(first: Arm, other: Arm, mode: LoadMode) -> Iterator[Difference]:
    found = [
        (abs(theirs - ours), mine.load, ours, theirs)
        for mine, its in both_valid(first, other)
        if (ours := _cached_share(mine)) is not None and (theirs := _cached_share(its)) is not None
    ]
    most, load, ours, theirs = max(found, default=(0.0, 0.0, 0.0, 0.0))
    if most >= CACHED_DIFFERENCE_MIN:
        message = (
            f"at {load_words(load, mode)} a prefix cache had {theirs:.0%} of the prompts' tokens on {other.name}, "
            f"{ours:.0%} on {first.name}: those need no prefill; caches that a balancer divides, or one that is "
            "off, are part of the answer"
        )
        brief = f"a prefix cache had {theirs:.0%} of the prompts on {other.name}, {ours:.0%} on {first.name}"
        yield Difference(finding=Finding.warning("compare.prefix_cache", message), brief=brief)


def _cached_share(step: LoadStep) -> float | None:
    told = [
        visit.cached.engines_share if visit.cached.responses_share is None else visit.cached.responses_share
        for visit in step.pooled
        if visit.cached.responses_share is not None or not visit.cached.preempted
    ]
    known = [share for share in told if share is not None]
    return sum(known) / len(known) if known else None


def _generator(first: Arm, other: Arm, mode: LoadMode) -> Iterator[Difference]:
    workers = [
        sorted({len(visit.record.workers) for step in arm.steps for visit in step.pooled}) for arm in (first, other)
    ]
    if workers[0] and workers[1] and workers[0] != workers[1]:
        mine, theirs = (" or ".join(map(str, one)) for one in workers)
        message = (
            f"{other.name} was loaded by {theirs} workers, {first.name} by {mine}: fewer workers read later and end "
            "sooner; set workers to one number"
        )
        brief = f"they were loaded by {theirs} and {mine} workers"
        yield Difference(finding=Finding.warning("compare.workers", message), brief=brief)
    for one, beside in ((first, other), (other, first)):
        alone = [
            step.load for step, its in both_valid(one, beside) if _generator_warned(step) and not _generator_warned(its)
        ]
        if alone:
            message = (
                f"at {_loads(alone, mode)} the load generator was near its limits with {one.name} only: what holds "
                f"{one.name} up there may be the generator; see the steps' warnings"
            )
            brief = f"the load generator was near its limits with {one.name} only"
            yield Difference(finding=Finding.warning("compare.generator", message), brief=brief)
    clocks = [
        {clock for step in arm.steps for visit in step.pooled for clock in visit.stamping.clocks}
        for arm in (first, other)
    ]
    if clocks[0] and clocks[1] and clocks[0] != clocks[1]:
        message = "their arrivals were stamped by different clocks: TTFT and ITL of one side are later by our reading"
        yield Difference(
            finding=Finding.warning("compare.clock", message), brief="their arrivals were stamped by different clocks"
        )


def _generator_warned(step: LoadStep) -> bool:
    return any(finding.id.startswith("generator.") for finding in step.warnings)


def _repeats(first: Arm, other: Arm, mode: LoadMode) -> Iterator[Difference]:
    uneven = [
        (mine.load, _repeats_of(mine), _repeats_of(theirs))
        for mine, theirs in both_valid(first, other)
        if _repeats_of(mine) != _repeats_of(theirs)
    ]
    if uneven:
        load, mine, theirs = uneven[-1]
        message = (
            f"at {_loads([one[0] for one in uneven], mode)} not the same repeats are valid on both sides (at "
            f"{load_words(load, mode)} {_numbers(theirs)} of {other.name}, {_numbers(mine)} of {first.name}): a drift "
            "between repeats may stand on one side only, and only common ones are paired"
        )
        brief = "not the same repeats are valid on both sides"
        yield Difference(finding=Finding.warning("compare.repeats", message), brief=brief)
    for one, beside in ((first, other), (other, first)):
        alone = sorted(one.valid.keys() - beside.valid.keys())
        if alone:
            message = f"not compared at {_loads(alone, mode)}: {beside.name} has no valid step there"
            yield Difference(finding=Finding.info("compare.loads", message))


def _repeats_of(step: LoadStep) -> frozenset[int]:
    return frozenset(visit.visit.repeat for visit in step.pooled)


def _numbers(repeats: frozenset[int]) -> str:
    return ("repeat " if len(repeats) == 1 else "repeats ") + ", ".join(map(str, sorted(repeats)))


def _loads(loads: list[float], mode: LoadMode) -> str:
    *others, last = sorted(loads)
    return "".join(f"{load:g}, " for load in others) + load_words(last, mode)
