"""The key check of fidelity: the scheduler and step model against the reference model's staircase.

Reference: Qwen2.5-32B in BF16 on four H100 NVL, 128/64 tokens (cv 0.15 and 0.3), output tokens/s.
"""

import pytest

from loadstair.serving.catalogue import find_gpu, find_model
from loadstair.serving.memory import memory_budget
from loadstair.serving.steptime import StepModel, expected_request_s
from loadstair.simserver.closedloop import ClosedLoopResult, run_closed_loop
from loadstair.simserver.scheduler import Scheduler, SchedulerConfig
from loadstair.units import ns_from_s
from tests.simserver.lengths import lognormal_lengths

QWEN = find_model("Qwen/Qwen2.5-32B-Instruct")
NVL = find_gpu("h100-nvl")
TP4 = {1: 95, 4: 358, 8: 675, 16: 1213, 32: 2010, 64: 2950}
TWO_TP2 = {1: 79, 4: 311, 8: 615, 16: 1204, 32: 2306, 64: 4190}


def closed_loop(tp: int, engines: int, users: int, seed: int = 5) -> ClosedLoopResult:
    step_model = StepModel(QWEN, NVL, tp, "nvlink_pairs")
    config = SchedulerConfig(step_model=step_model, kv_tokens=memory_budget(QWEN, NVL, tp).kv_tokens)
    request_ns = ns_from_s(expected_s(tp, engines, users))
    rounds = 40 if users < 16 else 12
    return run_closed_loop(
        tuple(Scheduler(config) for _ in range(engines)),
        users=users,
        lengths=lognormal_lengths(128, 64, seed=seed),
        window_start_ns=3 * request_ns,
        window_end_ns=(3 + rounds) * request_ns,
        user_gap_ns=request_ns // users,
    )


def expected_s(tp: int, engines: int, users: int) -> float:
    return expected_request_s(
        QWEN, NVL, tp, "nvlink_pairs", engines=engines, concurrent=users, input_tokens=128, output_tokens=64
    )


@pytest.mark.parametrize("users", TP4)
def test_one_tp4_engine_follows_the_reference_staircase(users):
    assert closed_loop(4, 1, users).output_tokens_per_s() == pytest.approx(TP4[users], rel=0.03)


@pytest.mark.parametrize("users", TWO_TP2)
def test_two_tp2_engines_follow_the_reference_staircase(users):
    assert closed_loop(2, 2, users).output_tokens_per_s() == pytest.approx(TWO_TP2[users], rel=0.03)


def test_two_tp2_win_by_about_44_percent_at_64_users():
    ratio = closed_loop(2, 2, 64).output_tokens_per_s() / closed_loop(4, 1, 64).output_tokens_per_s()
    assert ratio == pytest.approx(4190 / 2950, rel=0.03)


def test_the_topologies_cross_between_14_and_20_users():
    def ratio(users: int) -> float:
        return closed_loop(2, 2, users).output_tokens_per_s() / closed_loop(4, 1, users).output_tokens_per_s()

    assert ratio(14) < 1 < ratio(20)


@pytest.mark.parametrize(("tp", "engines", "reference"), [(4, 1, TP4), (2, 2, TWO_TP2)])
@pytest.mark.parametrize("users", [1, 16, 64])
def test_the_closed_form_foretells_how_long_a_request_takes(tp, engines, reference, users):
    # Little's law on the reference: residence = users / (tokens a second / 64 tokens a request)
    assert expected_s(tp, engines, users) == pytest.approx(users * 64 / reference[users], rel=0.06)


def test_the_same_seed_gives_the_same_run():
    assert closed_loop(4, 1, 8) == closed_loop(4, 1, 8)


def test_every_user_has_at_most_one_request_under_way():
    result = closed_loop(2, 2, 4)
    events = sorted(
        [(trace.sent_ns, 1) for trace in result.traces] + [(trace.token_ns[-1], -1) for trace in result.traces]
    )
    in_flight = peak = 0
    for _, change in events:
        in_flight += change
        peak = max(peak, in_flight)
    assert (in_flight, peak) == (0, 4)
