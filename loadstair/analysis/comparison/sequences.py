"""How many requests each arm runs at once: n engines of the same `max_num_seqs` admit n times as many."""

from collections.abc import Iterator

from loadstair.analysis.comparison.arm import Arm, Difference, both_valid
from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.flags import KV_ROLE
from loadstair.plan.model import LoadMode, load_words
from loadstair.plan.pools import PREFILL

LIMIT = "max_num_seqs"
QUEUED = 1.0
"""Requests waiting on average: from here on a queue, below it the moment between arrival and admission."""


def sequence_differences(first: Arm, other: Arm, mode: LoadMode, *, arranged_alike: bool) -> Iterator[Difference]:
    mine, theirs = _limits(first), _limits(other)
    if mine is not None and theirs is not None:
        yield from _known(first, mine, other, theirs, mode, arranged_alike=arranged_alike)
    elif first.engine_count is not None and other.engine_count is not None:
        few, many = sorted((first, other), key=lambda arm: arm.engine_count or 0)
        if few.engine_count != many.engine_count:
            yield from _unknown(few, many, mode)


def _limits(arm: Arm) -> tuple[int, ...] | None:
    """Of each engine that gives tokens; None unless all are known."""
    values = [engine.flags.get(LIMIT) for engine in arm.engines if engine.flags.get(KV_ROLE) != PREFILL]
    known = [int(value) for value in values if value is not None and value.isdigit()]
    return tuple(known) if known and len(known) == len(values) else None


def _known(
    first: Arm, mine: tuple[int, ...], other: Arm, theirs: tuple[int, ...], mode: LoadMode, *, arranged_alike: bool
) -> Iterator[Difference]:
    if sum(mine) == sum(theirs):
        return
    (few, fewer), (many, more) = sorted(((first, mine), (other, theirs)), key=lambda one: sum(one[1]))
    admits = f"{many.name} admits {_sum(more)} sequences at once, {few.name} {_sum(fewer)}"
    most = _most_in_flight((first, other), mode)
    if most <= sum(fewer):
        message = f"{admits}: no step had more than {most:.0f} requests under way, so it decides nothing here"
        yield Difference(finding=Finding.info("compare.max_num_seqs", message))
        return
    unit = "users" if mode is LoadMode.CLOSED else "requests under way"
    message = f"{admits}: above {sum(fewer)} {unit} {few.name} queues where {many.name} does not"
    if arranged_alike:
        message += "; both are arranged alike, so this is compared"
        yield Difference(finding=Finding.info("compare.max_num_seqs", message))
        return
    each, left = divmod(sum(more), len(fewer))
    if not left:
        message += f"; set {LIMIT}: {each} on {few.name} to compare like with like"
    brief = f"{many.name} admits {sum(more)} sequences at once and {few.name} {sum(fewer)}"
    yield Difference(finding=Finding.warning("compare.max_num_seqs", message), brief=brief)


def _sum(limits: tuple[int, ...]) -> str:
    """`256`, `2 × 256 = 512`, `128 + 256 = 384`."""
    if len(limits) == 1:
        return str(limits[0])
    if len(set(limits)) == 1:
        return f"{len(limits)} × {limits[0]} = {sum(limits)}"
    return f"{' + '.join(map(str, limits))} = {sum(limits)}"


def _most_in_flight(arms: tuple[Arm, Arm], mode: LoadMode) -> float:
    steps = [step for arm in arms for step in arm.valid.values()]
    if mode is LoadMode.CLOSED:
        return max((step.load for step in steps), default=0.0)
    return max((visit.in_flight_mean for step in steps for visit in step.pooled), default=0.0)


def _unknown(few: Arm, many: Arm, mode: LoadMode) -> Iterator[Difference]:
    """The plan does not say: the engines' own queues may."""
    times = f"{many.name} has {many.engine_count} engines and {few.name} {few.engine_count}"
    advice = f"if that is {LIMIT} (and not the memory of the KV cache), raise it there to compare like with like"
    queues = [(step.load, _waiting(step), _waiting(beside)) for step, beside in both_valid(few, many)]
    for load, here, there in queues:
        if here is not None and there is not None and here >= QUEUED > there:
            message = (
                f"{times}, and from {load_words(load, mode)} on requests wait to be admitted at {few.name} only "
                f"({here:.0f} on average): {advice}"
            )
            brief = f"from {load_words(load, mode)} on only {few.name} has requests wait to be admitted"
            yield Difference(finding=Finding.warning("compare.queue", message), brief=brief)
            return
    if any(here is None or there is None for _, here, there in queues):
        message = (
            f"{times}: with one {LIMIT} for each they admit as many times more sequences at once, and the plan does "
            f"not say what it is; put it into engines[].flags"
        )
        yield Difference(finding=Finding.info("compare.max_num_seqs", message))


def _waiting(step: LoadStep) -> float | None:
    told = [visit.meanwhile.requests_waiting for visit in step.pooled]
    known = [value for value in told if value is not None]
    return sum(known) / len(known) if known else None
