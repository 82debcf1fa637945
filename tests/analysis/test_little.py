"""Little's law on holds of known truth: sound ones agree, planted faults show on one side only."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.step.latency import latency_rows
from loadstair.analysis.step.little import Flow, expected_in_flight, flow, server_in_flight_max, violation
from loadstair.analysis.step.throughput import Window
from loadstair.samples.frame import samples_from_tables
from loadstair.samples.record import Outcome, Phase, RequestSample
from tests.analysis.synthetic import TP4, SyntheticRun, failed, plan_of, simulate, table_of


def run_of(users: int, seed: int = 3, cv: float = 0.2, hold_s: float = 12) -> SyntheticRun:
    lengths = {"input_tokens": 128, "output_tokens": {"mean": 32, "cv": cv}}
    workload = {"model": "Qwen/Qwen2.5-32B-Instruct", **lengths}
    load = {"steps": [users], "hold_s": hold_s, "warmup_s": 2}
    return simulate({"tp4": TP4}, plan_of({"tp4": TP4}, seed=seed, workload=workload, load=load))


def measured(run: SyntheticRun) -> tuple[Flow, Window]:
    step = run.run.visits[0].steps[0]
    window = Window(start_ns=step.hold_start_ns, end_ns=step.hold_end_ns)
    samples = run.samples
    hold = samples.take(np.flatnonzero((samples.requests["phase"] == Phase.HOLD).to_numpy(dtype=bool)))
    return flow(samples, hold, window), window


RUN = run_of(16)


def test_the_three_sides_are_what_a_closed_loop_makes_them() -> None:
    seen, _ = measured(RUN)
    # 16 users, each 0.08 s to the first token and 31 gaps of 0.02 s, then 1 ms: 16 / 0.701 s.
    assert seen.in_flight == pytest.approx(16, rel=0.01)
    assert seen.residence_s == pytest.approx(0.70, rel=0.03)
    assert seen.ended_per_s == pytest.approx(22.8, rel=0.03)
    assert seen.expected == pytest.approx(seen.in_flight, rel=0.05)


@pytest.mark.parametrize("cv", [0.0, 0.2])
@pytest.mark.parametrize("users", [1, 4, 16, 48])
def test_sound_holds_keep_the_law_also_where_users_move_in_step(users: int, cv: float) -> None:
    for seed in range(4):
        assert violation(*measured(run_of(users, seed, cv, hold_s=8))) is None


def test_times_that_end_too_early_break_it() -> None:
    def early(row: RequestSample) -> RequestSample:
        assert row.last_token_ns is not None
        return replace(row, last_token_ns=(row.dispatch_ns + row.last_token_ns) // 2)

    assert violation(*measured(RUN.with_rows(early))) == pytest.approx(-0.5, abs=0.05)


def without(lost: Callable[[RequestSample], bool]) -> SyntheticRun:
    return replace(RUN, rows=tuple(row for row in RUN.rows if not lost(row)))


def test_lost_records_show_against_the_users_and_the_engines() -> None:
    seen, _ = measured(without(lambda row: row.index % 10 == 3))
    assert seen.residence_s is not None
    assert seen.in_flight < expected_in_flight(16, seen.residence_s)  # a tenth is gone, 5 % may be
    seen, _ = measured(without(lambda row: row.worker == "worker1"))
    assert server_in_flight_max(seen.in_flight) < 16


@pytest.mark.parametrize("users", [1, 4, 16, 48])
def test_users_who_never_pause_are_all_under_way(users: int) -> None:
    seen, _ = measured(run_of(users))
    assert seen.residence_s is not None
    assert seen.in_flight >= expected_in_flight(users, seen.residence_s)


def test_short_requests_may_leave_a_user_idle_for_a_larger_share() -> None:
    # 5 ms of 10 ms, and 5 ms of 1.005 s; 5 % more each.
    assert expected_in_flight(10, 0.005) == pytest.approx(0.95 * 5)
    assert expected_in_flight(10, 1.0) == pytest.approx(0.95 * 10 / 1.005)


def test_failed_requests_stay_until_their_end_and_killed_ones_are_left_out() -> None:
    failing, _ = measured(RUN.with_rows(failed))
    sound, _ = measured(RUN)
    assert failing.residence_s == pytest.approx(sound.residence_s)
    killed, _ = measured(RUN.with_rows(lambda row: replace(row, outcome=Outcome.KILLED)))
    assert (killed.residence_s, killed.expected, killed.error) == (None, None, None)


def test_few_requests_and_short_windows_tell_nothing() -> None:
    few, window = measured(run_of(1, hold_s=8))
    assert few.error is None  # some 18 requests of 0.44 s
    assert violation(few, window) is None
    wrong = Flow(in_flight=16, ended_per_s=10, residence_s=0.7, error=0.1)
    assert violation(wrong, Window(start_ns=0, end_ns=10**9)) is None  # 1 s is less than twice 0.7 s
    assert violation(wrong, Window(start_ns=0, end_ns=10**10)) == pytest.approx((7 - 16) / 16)


def test_an_empty_hold_has_no_residence() -> None:
    empty = samples_from_tables([table_of(())])
    nothing = flow(empty, empty.take(latency_rows(empty)), Window(start_ns=0, end_ns=10**9))
    assert (nothing.in_flight, nothing.residence_s) == (0, None)
