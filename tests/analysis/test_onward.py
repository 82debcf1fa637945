from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.staircase.onward import stop_reason, worth_repeating
from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.pool import JudgedStep, LoadStep
from loadstair.samples.record import Outcome
from tests.analysis.synthetic import Server, SyntheticRun, plan_of, saturating, simulate

LOADS = (1, 4, 16, 32, 64, 128)
"""Of `FLAT`, the first three lie on the way up and at the plateau, the others beyond it."""
FLAT = Server(ttft_ms=lambda load: 20.0 * max(1.0, load / 16), itl_ms=lambda load: 10.0 * max(1.0, load / 16))
"""Times grow in proportion from 16 users on: throughput is the same from there."""


def climb(server: Server, *, seed: int = 3, loads: tuple[int, ...] = LOADS) -> SyntheticRun:
    plan = plan_of({"a": server}, seed=seed, load={"steps": list(loads), "hold_s": 6})
    return simulate({"a": server}, plan)


def steps_of(run: SyntheticRun) -> tuple[LoadStep, ...]:
    return run.summary().topologies["a"].steps


def reason(steps: tuple[LoadStep, ...]) -> str | None:
    return stop_reason(steps, np.random.default_rng(5))


def test_two_steps_that_carry_no_more_than_the_best_before_end_the_climb() -> None:
    steps = steps_of(climb(FLAT))
    stopped_at = next(count for count in range(len(steps) + 1) if reason(steps[:count]) is not None)
    assert stopped_at == 5  # 32 and 64 users carry no more than 16
    assert reason(steps[:5]) == "deep in saturation: loads 32 and 64 carry no more than 16"


@pytest.mark.parametrize("seed", range(6))
def test_a_topology_that_still_gains_is_climbed_to_the_end(seed: int) -> None:
    # load / (load + 64) of the limit: 50 % more from 32 to 64 users, 33 % from 64 to 128
    steps = steps_of(climb(saturating(itl_ms=10, users_at_double=64, ttft_ms=20), seed=seed))
    assert [reason(steps[:count]) for count in range(len(steps) + 1)] == [None] * (len(steps) + 1)


def test_a_single_slow_step_does_not_end_the_climb() -> None:
    # Gaps of 16 users are twice as long as they should be: neither 16 nor 32 carry more than 8, 64 do.
    slow = Server(ttft_ms=lambda load: 20.0, itl_ms=lambda load: 20.0 if load == 16 else 10.0)
    steps = steps_of(climb(slow, loads=(4, 8, 16, 32)))
    assert reason(steps) is None


def test_failing_requests_end_the_climb_and_other_reasons_do_not() -> None:
    run = climb(FLAT, loads=(1, 4, 16))
    failing = run.with_rows(
        lambda row: replace(row, outcome=Outcome.TIMEOUT) if row.load == 16 and row.index % 3 == 0 else row
    ).recounted()
    assert reason(steps_of(failing)) == "requests failed at load 16"
    assert reason(steps_of(run.with_rows(lambda row: replace(row, clock_step=row.load == 16)))) is None


def test_nothing_is_said_before_the_first_step() -> None:
    assert reason(()) is None


@pytest.mark.parametrize(
    ("ids", "again"),
    [
        ((), False),
        (("generator.saturated",), True),
        (("requests.failed",), True),
        (("requests.failed", "samples.few"), True),  # few succeeded because the others failed
        (("samples.few",), False),
        (("workers.lost",), True),
        (("tokens.off", "generator.saturated"), False),
        (("tokens.off",), False),
    ],
)
def test_a_step_is_taken_again_if_its_reasons_may_be_gone_then(ids: tuple[str, ...], again: bool) -> None:
    judged = steps_of(climb(FLAT, loads=(4,)))[0].visits[0]
    findings = tuple(Finding.invalid(id_, "planted") for id_ in ids)
    warned = (*findings, Finding.warning("stream.bunched", "planted"))
    assert worth_repeating(JudgedStep(step=judged.step, findings=warned)) is again
