"""The four answers of a classical plan, for each pair of lengths: tests of other lengths are no other load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.matrix.table import MatrixResult, Status, TestResult
from loadstair.analysis.statistics.bootstrap import ratio
from loadstair.analysis.step.failures import FailureKind
from loadstair.plan.model import Lengths, Matrix

SATURATED_SHARE = 0.9
"""Of the matrix's highest throughput: from the first test that reaches it on, more users bring little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    users: int | None
    """None: not within the matrix."""
    test: str | None
    certain: bool | None
    """Whether the intervals of the tests bear it out; None where nothing was found, or without intervals."""
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    input_tokens: Lengths
    output_tokens: Lengths
    out_of_memory: Answer
    latency_doubles: Answer
    saturates: Answer
    recommended: Answer


def answers(matrix: Matrix, result: MatrixResult, rng: np.random.Generator) -> tuple[Answers, ...]:
    """In the order in which the plan has the lengths."""
    pairs = dict.fromkeys(test.lengths for test in matrix.tests)
    return tuple(_of_lengths(pair, result.tests, matrix.warn_factor, rng) for pair in pairs)


def _of_lengths(
    pair: tuple[Lengths, Lengths], tests: Sequence[TestResult], warn_factor: float, rng: np.random.Generator
) -> Answers:
    rising = sorted((one for one in tests if one.test.lengths == pair), key=lambda one: one.test.users)
    return Answers(
        input_tokens=pair[0],
        output_tokens=pair[1],
        out_of_memory=_out_of_memory(rising),
        latency_doubles=_latency_doubles(rising, warn_factor),
        saturates=_saturates(rising, rng),
        recommended=_recommended(rising, warn_factor),
    )


def _out_of_memory(rising: Sequence[TestResult]) -> Answer:
    for one in rising:
        if any(failure.kind is FailureKind.OUT_OF_MEMORY for failure in one.failures):
            return _found(one, certain=True)
    failed = next((one for one in rising if one.status is Status.FAILURE), None)
    other = "" if failed is None else f"; {failed.test.id} fails otherwise ({failed.failures[0].message})"
    return _not_found(rising, other)


def _latency_doubles(rising: Sequence[TestResult], warn_factor: float) -> Answer:
    below_for_sure = True
    for one in rising:
        times = one.latency_ratio
        if times.value is None:
            below_for_sure = False
        elif times.value > warn_factor:
            low = times.low
            certain = None if low is None else below_for_sure and low > warn_factor
            return _found(one, certain=certain, more=f", {times.value:.1f} times the baseline")
        else:
            below_for_sure = below_for_sure and times.high is not None and times.high <= warn_factor
    unknown = [one.test.id for one in rising if one.latency_ratio.value is None]
    if len(unknown) == len(rising):
        return Answer(users=None, test=None, certain=None, words="not known: no test could be held against a baseline")
    return _not_found(rising, f"; not known of {', '.join(unknown)}" if unknown else "")


def _saturates(rising: Sequence[TestResult], rng: np.random.Generator) -> Answer:
    """The first test whose throughput is within a tenth of the highest, if it is not the last."""
    usable = [one for one in rising if one.bursts.valid and one.status is not Status.FAILURE]
    rates = [one.bursts.tokens_per_s for one in usable]
    told = [(one, rate) for one, rate in zip(usable, rates, strict=True) if rate is not None and rate.value > 0]
    if not told:
        return _not_found(rising)
    best = max(rate.value for _, rate in told)
    place = next(i for i, (_, rate) in enumerate(told) if rate.value >= SATURATED_SHARE * best)
    if place == len(told) - 1:
        return _not_found(rising, f"; the highest is {best:.0f} tokens/s at {_users(told[-1][0])}")
    first = told[place][1]
    gains = [ratio(rate, first, rng) for _, rate in told[place + 1 :]]
    highs = [gain.estimate().high for gain in gains if gain is not None]
    certain = (
        None if len(highs) < len(gains) else all(high is not None and high <= 1 / SATURATED_SHARE for high in highs)
    )
    return _found(told[place][0], certain=certain, more=f", {first.value:.0f} tokens/s of {best:.0f}")


def _recommended(rising: Sequence[TestResult], warn_factor: float) -> Answer:
    good = list(_good(rising))
    if not good:
        first = rising[0]
        return Answer(users=None, test=None, certain=None, words=f"none: {first.test.id} is {_told(first)}")
    last = good[-1]
    highs = [one.latency_ratio.high for one in good]
    certain = None if None in highs else all(high is not None and high <= warn_factor for high in highs)
    more = "" if len(good) < len(rising) else ", the most that the matrix tried"
    if any(one.latency_ratio.value is None for one in good):
        more += "; whether its latency has doubled is not known"
    return _found(last, certain=certain, more=more)


def _good(rising: Sequence[TestResult]) -> Iterator[TestResult]:
    """Up to the last test before the first that is no success."""
    for one in rising:
        if one.status is not Status.SUCCESS:
            return
        yield one


def _told(one: TestResult) -> str:
    return f"a {one.status}" if one.status is not None else one.bursts.verdict


def _found(one: TestResult, *, certain: bool | None, more: str = "") -> Answer:
    doubt = {True: "", False: " (inside the noise)", None: " (without an interval)"}[certain]
    return Answer(
        users=one.test.users, test=one.test.id, certain=certain, words=f"{_users(one)} ({one.test.id}){more}{doubt}"
    )


def _not_found(rising: Sequence[TestResult], more: str = "") -> Answer:
    most = rising[-1]
    return Answer(users=None, test=None, certain=None, words=f"not within the matrix, up to {_users(most)}{more}")


def _users(one: TestResult) -> str:
    return "1 user" if one.test.users == 1 else f"{one.test.users} users"
