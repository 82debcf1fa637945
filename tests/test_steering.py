"""The climb of a visit as the analysis steers it, over records with a known truth."""

from dataclasses import replace

import pyarrow as pa

from loadstair.plan.staircase import Visit
from loadstair.samples.record import RequestSample
from loadstair.samples.runrecord import StepRole
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.steering import Steering
from tests.analysis.synthetic import Server, SyntheticRun, plan_of, simulate, table_of

FLAT = Server(ttft_ms=lambda load: 20.0 * max(1.0, load / 16), itl_ms=lambda load: 10.0 * max(1.0, load / 16))
"""No more throughput from 16 users on."""
LOADS = [4, 16, 32, 64, 128]


def run_of(**load: object) -> SyntheticRun:
    """Warm-up is longer than a request with 128 users, 2.6 s: all of them are under way when the hold begins."""
    plan = plan_of({"a": FLAT}, load={"steps": LOADS, "warmup_s": 4, "hold_s": 6, **load})
    return simulate({"a": FLAT}, plan)


def steered(
    run: SyntheticRun, bad_clock_steps: tuple[int, ...] = ()
) -> tuple[list[tuple[int, float, str]], str | None]:
    """The orders as (step, load, role), and why it stopped; each order is answered with the rows of its load.
    `bad_clock_steps`: numbers of steps during which the clock is stepped, which makes them invalid."""
    visit = Visit(visit=0, repeat=0, topology=run.plan.topologies[0])
    steering = Steering(run.plan, visit, TELEMETRY_SCHEMA.empty_table)
    taken = []
    while (order := steering.next_step()) is not None:
        taken.append((order.step, order.load, str(order.role)))
        made = next(step for step in run.run.visits[0].steps if step.load == order.load)
        bad = order.step in bad_clock_steps
        rows = [replace(row, step=order.step, clock_step=bad) for row in run.rows if row.step == made.step]
        steering.step_done(replace(made, step=order.step, role=order.role), rows_table(rows))
    return taken, steering.stopped


def rows_table(rows: list[RequestSample]) -> pa.Table:
    return table_of(tuple(rows))


def test_the_climb_ends_deep_in_saturation_and_says_so() -> None:
    taken, stopped = steered(run_of())
    assert [load for _, load, _ in taken] == [4, 16, 32, 64]
    assert stopped == "deep in saturation: loads 32 and 64 carry no more than 16"


def test_a_plan_can_have_every_step_taken() -> None:
    taken, stopped = steered(run_of(stop_early=False))
    assert [load for _, load, _ in taken] == LOADS
    assert stopped is None


def test_an_invalid_step_is_taken_once_more_under_a_number_of_its_own() -> None:
    taken, _ = steered(run_of(stop_early=False), bad_clock_steps=(1,))
    assert taken[:4] == [
        (0, 4, StepRole.PLANNED),
        (1, 16, StepRole.PLANNED),
        (5, 16, StepRole.REPEATED),  # the plan has the numbers 0 to 4
        (2, 32, StepRole.PLANNED),
    ]


def test_a_step_that_stays_invalid_is_not_taken_a_third_time() -> None:
    taken, _ = steered(run_of(stop_early=False), bad_clock_steps=(1, 5))
    assert [load for _, load, _ in taken] == [4, 16, 16, 32, 64, 128]


def test_a_spike_is_the_usual_load_the_surge_and_the_usual_load_again() -> None:
    load = {"shape": "spike", "steps": [4, 16], "hold_s": 6, "surge_s": 3}
    plan = plan_of({"a": FLAT}, load=load, slo={"ttft_ms_p99": 100})
    steering = Steering(plan, Visit(visit=0, repeat=0, topology=plan.topologies[0]), TELEMETRY_SCHEMA.empty_table)
    orders = [steering.next_step() for _ in range(4)]
    assert [(one.load, one.hold_s, one.at_once, one.tail) for one in orders if one is not None] == [
        (4, 6, False, False),
        (16, 3, True, False),
        (4, 18, True, True),  # recovery_s is three holds where the plan does not say
    ]


def test_a_soak_is_one_step() -> None:
    plan = plan_of({"a": FLAT}, load={"shape": "soak", "steps": [4], "hold_s": 60})
    steering = Steering(plan, Visit(visit=0, repeat=0, topology=plan.topologies[0]), TELEMETRY_SCHEMA.empty_table)
    orders = [steering.next_step() for _ in range(2)]
    assert [None if one is None else (one.load, one.hold_s) for one in orders] == [(4, 60), None]
