"""Engines on one GPU take turns."""

import pytest

from loadstair.simserver.closedloop import run_closed_loop
from loadstair.simserver.scheduler import Scheduler, SchedulerConfig
from loadstair.simserver.sharing import SharedGpu
from loadstair.units import ns_from_s
from tests.simserver.laws import STEP_MODEL, request, scheduler, step

CONFIG = SchedulerConfig(step_model=STEP_MODEL, kv_tokens=16_000)


def test_an_engine_with_half_of_the_gpu_takes_twice_as_long():
    durations = []
    for share in (1.0, 0.5):
        engine = scheduler(gpu_share=share)
        engine.add(request("a", 100, 1))
        durations.append(step(engine).duration_ns)
    assert durations[1] == pytest.approx(2 * durations[0], abs=2)


def test_a_step_lasts_longer_only_while_another_engine_has_one_under_way():
    gpu = SharedGpu()
    first, second = Scheduler(CONFIG, gpu), Scheduler(CONFIG, gpu)
    for engine in (first, second):
        engine.add(request("a", 100, 1))
    alone, beside = first.next_step(0), second.next_step(0)
    assert beside.duration_ns == pytest.approx(2 * alone.duration_ns, abs=2)
    first.finish_step(alone)
    second.finish_step(beside)
    first.add(request("b", 100, 1))
    assert first.next_step(0).duration_ns == alone.duration_ns


def test_two_engines_on_one_gpu_give_no_more_than_one_alone():
    def tokens_per_s(schedulers: tuple[Scheduler, ...]) -> float:
        return run_closed_loop(
            schedulers,
            users=8,
            lengths=lambda number: (100, 50 + number % 17),
            window_start_ns=ns_from_s(5),
            window_end_ns=ns_from_s(30),
            user_gap_ns=ns_from_s(0.1),
        ).output_tokens_per_s()

    gpu = SharedGpu()
    shared = tokens_per_s((Scheduler(CONFIG, gpu), Scheduler(CONFIG, gpu)))
    # Four rows cost a step nearly as much as eight do, so halves of the users in turn make about half the tokens.
    assert shared == pytest.approx(tokens_per_s((Scheduler(CONFIG),)) / 2, rel=0.1)
