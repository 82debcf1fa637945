"""The order of a matrix visit: warm-up, baselines, then every test's runs, all bursts of a known number of requests."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from loadstair.errors import Problem
from loadstair.plan.model import Lengths, LoadShape, Matrix, MatrixTest, Plan


class BurstKind(StrEnum):
    WARMUP = "warmup"
    """Nothing is told of it."""
    BASELINE = "baseline"
    """Single requests, one after the other, with the lengths of the tests that are held against it."""
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """`users` begin at once and send `requests_per_user` requests each, one after the other."""

    step: int
    """Counts on over the visit."""
    kind: BurstKind
    label: str
    """A test's id, `baseline/…` or `warmup`: what the step's record has as `test`. An id has no slash."""
    run: int
    users: int
    requests_per_user: int
    input_tokens: Lengths
    output_tokens: Lengths
    growth_s: float = 0.0
    pause_s: float = 0.0
    """Idle time afterwards."""
    step_again: int | None = None
    """Its number where it is taken once more; None: it is that already."""

    @property
    def requests(self) -> int:
        return self.users * self.requests_per_user

    @property
    def repeated(self) -> bool:
        return self.step_again is None

    def once_more(self) -> Self:
        """Raises ValueError where it is that already."""
        if self.step_again is None:
            raise ValueError(f"burst {self.step} was taken once more already")
        return replace(self, step=self.step_again, step_again=None)


def baseline_label(test: MatrixTest, matrix: Matrix) -> str:
    """Of the baseline with this test's lengths: `baseline/` and the first test that has them."""
    return "baseline/" + next(other.id for other in matrix.tests if other.lengths == test.lengths)


def bursts(matrix: Matrix) -> tuple[Burst, ...]:
    """What one visit runs, in order."""
    return tuple(_numbered(matrix))


def _numbered(matrix: Matrix) -> Iterator[Burst]:
    order = tuple(_plan(matrix))
    for step, (test, kind, run, requests) in enumerate(order):
        alone = kind is not BurstKind.TEST
        last_run = kind is BurstKind.TEST and run == matrix.runs - 1
        yield Burst(
            step=step,
            kind=kind,
            label=_label(kind, test, matrix),
            run=run,
            users=1 if alone else test.users,
            requests_per_user=requests,
            input_tokens=test.input_tokens,
            output_tokens=test.output_tokens,
            growth_s=0.0 if alone else matrix.growth_s,
            pause_s=matrix.cooldown_s if last_run and test is not matrix.tests[-1] else 0.0,
            step_again=len(order) + step,
        )


def _plan(matrix: Matrix) -> Iterator[tuple[MatrixTest, BurstKind, int, int]]:
    """Test, kind, run, requests per user."""
    if matrix.warmup_requests:
        yield matrix.tests[0], BurstKind.WARMUP, 0, matrix.warmup_requests
    for test in matrix.tests:
        if baseline_label(test, matrix) == f"baseline/{test.id}":
            yield test, BurstKind.BASELINE, 0, matrix.baseline_requests
    for test in matrix.tests:
        for run in range(matrix.runs):
            yield test, BurstKind.TEST, run, matrix.requests_per_user


def _label(kind: BurstKind, test: MatrixTest, matrix: Matrix) -> str:
    match kind:
        case BurstKind.WARMUP:
            return "warmup"
        case BurstKind.BASELINE:
            return baseline_label(test, matrix)
        case BurstKind.TEST:
            return test.id


def longest_request_tokens(matrix: Matrix) -> float:
    """Prompt and answer together, of the test whose mean is the most."""
    return max(test.input_tokens.mean + test.output_tokens.mean for test in matrix.tests)


def quick_matrix(matrix: Matrix) -> Matrix:
    """The same tests with half of the runs and of the idle time."""
    return matrix.model_copy(update={"runs": (matrix.runs + 1) // 2, "cooldown_s": matrix.cooldown_s / 2})


def matrix_problems(plan: Plan) -> Iterator[Problem]:
    matrix = plan.matrix
    if matrix is None:
        return
    seen: set[str] = set()
    for index, test in enumerate(matrix.tests):
        if test.id in seen:
            yield Problem(path=f"matrix.tests[{index}].id", message=f"{test.id!r} is the id of an earlier test")
        seen.add(test.id)
    users = tuple(sorted({float(test.users) for test in matrix.tests}))
    if plan.load.steps != users:
        yield Problem(path="load.steps", message="a matrix gives the loads by its tests' users: leave it out")
    if plan.load.request_timeout_s < matrix.latency_s_max:
        message = (
            f"{matrix.latency_s_max:g} s is longer than a request may take "
            f"(load.request_timeout_s: {plan.load.request_timeout_s:g} s)"
        )
        yield Problem(path="matrix.latency_s_max", message=message)
    for path, used in _staircase_only(plan).items():
        if used:
            yield Problem(path=path, message="is for a staircase and would do nothing in a matrix; leave it out")


def _staircase_only(plan: Plan) -> dict[str, bool]:
    load = plan.load
    return {
        "slo": plan.slo is not None,
        "load.shape": load.shape is not LoadShape.STAIRCASE,
        "load.refine": load.refine > 0,
        "load.precision": load.precision is not None,
        "load.on_worker_lost": load.on_worker_lost == "replace",
    }
