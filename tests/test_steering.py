"""The climb of a visit as the analysis steers it, over records with a known truth."""

from dataclasses import replace

import pyarrow as pa
import pytest

from loadstair.drive.staircase import StepOrder
from loadstair.plan.staircase import Visit
from loadstair.samples.frame import samples_from_tables
from loadstair.samples.readings import telemetry_from_tables
from loadstair.samples.record import RequestSample
from loadstair.samples.runrecord import StepRole
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.steering import Steering
from loadstair.units import NS_PER_S
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


def test_what_an_earlier_visit_took_is_not_taken_again_but_counts() -> None:
    """The broken visit ended after the invalid step with 16 users: that is repeated first, and what shows that the
    climb is deep in saturation are its steps and the new ones together."""
    run = run_of()
    made = run.run.visits[0]
    bad = [replace(row, clock_step=row.step == 1) for row in run.rows]
    earlier = replace(made, steps=made.steps[:2], drained=False, server_after=None)
    visit = Visit(visit=1, repeat=0, topology=run.plan.topologies[0])
    steering = Steering(run.plan, visit, TELEMETRY_SCHEMA.empty_table)
    steering.taken_before(
        earlier, samples_from_tables([rows_table(bad)]), telemetry_from_tables([TELEMETRY_SCHEMA.empty_table()])
    )
    taken = []
    while (order := steering.next_step()) is not None:
        taken.append((order.step, order.load, str(order.role)))
        step = next(step for step in made.steps if step.load == order.load)
        rows = [replace(row, step=order.step) for row in run.rows if row.step == step.step]
        steering.step_done(replace(step, step=order.step, role=order.role), rows_table(rows))
    assert taken == [
        (5, 16, StepRole.REPEATED),  # the plan has the numbers 0 to 4
        (2, 32, StepRole.PLANNED),
        (3, 64, StepRole.PLANNED),
    ]
    assert steering.stopped == "deep in saturation: loads 32 and 64 carry no more than 16"


def after_a_loss(shape: str, roles: tuple[StepRole, ...] = (StepRole.PLANNED,)) -> list[tuple[int, float, str]]:
    """What a visit takes after one whose only load, 16 users, lost a worker each time."""
    plan = plan_of({"a": FLAT}, load={"shape": shape, "steps": [16], "hold_s": 6, "on_worker_lost": "replace"})
    visits = simulate({"a": FLAT}, plan).run.visits
    steering = Steering(plan, Visit(visit=9, repeat=0, topology=plan.topologies[0]), TELEMETRY_SCHEMA.empty_table)
    nothing = telemetry_from_tables([TELEMETRY_SCHEMA.empty_table()])
    for number, role in enumerate(roles):
        (step,) = visits[0].steps
        lost = replace(step, step=number, role=role, workers_lost=("worker-0",))
        earlier = replace(visits[0], steps=(lost,))
        steering.taken_before(earlier, samples_from_tables([rows_table([])]), nothing)
    orders = [steering.next_step(), steering.next_step()]
    return [(order.step, order.load, str(order.role)) for order in orders if order is not None]


@pytest.mark.parametrize("shape", ["staircase", "soak"])
def test_a_step_that_lost_a_worker_is_taken_again_before_all_else(shape: str) -> None:
    assert after_a_loss(shape) == [(1, 16, StepRole.REPEATED)]  # the plan has the number 0


def test_so_it_is_if_its_repetition_lost_one_as_well() -> None:
    assert after_a_loss("staircase", (StepRole.PLANNED, StepRole.REPEATED)) == [(2, 16, StepRole.REPEATED)]


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


def placed(
    run: SyntheticRun, repeat: int = 0, extras: tuple[StepOrder, ...] = ()
) -> tuple[list[tuple[int, float, str]], Steering]:
    """Each order is answered with a run of its own load."""
    visit = Visit(visit=0, repeat=repeat, topology=run.plan.topologies[0])
    steering = Steering(run.plan, visit, TELEMETRY_SCHEMA.empty_table, extras)
    taken = []
    while (order := steering.next_step()) is not None:
        taken.append((order.step, order.load, str(order.role)))
        plan = plan_of({"a": FLAT}, load={"steps": [order.load], "warmup_s": 4, "hold_s": 6}, slo={"itl_ms_p50": 25})
        one = simulate({"a": FLAT}, plan)
        (made,) = one.run.visits[0].steps
        later_ns = len(taken) * 3600 * NS_PER_S
        rows = [replace(later(row, later_ns), step=order.step) for row in one.rows]
        record = replace(
            made,
            step=order.step,
            role=order.role,
            hold_start_ns=made.hold_start_ns + later_ns,
            hold_end_ns=made.hold_end_ns + later_ns,
        )
        steering.step_done(record, rows_table(rows))
    return taken, steering


def later(row: RequestSample, by_ns: int) -> RequestSample:
    names = ("dispatch_ns", "sent_ns", "headers_ns", "first_token_ns", "last_token_ns", "end_ns")
    moved = {name: getattr(row, name) + by_ns for name in names if getattr(row, name) is not None}
    return replace(row, arrivals=[at_ns + by_ns for at_ns in row.arrivals], **moved)


def test_the_first_repeat_adds_steps_for_the_knee_and_for_the_slo_and_the_next_climbs_over_them() -> None:
    plan = plan_of(
        {"a": FLAT},
        load={"steps": [2, 8, 32, 128], "warmup_s": 4, "hold_s": 6, "refine": 2, "stop_early": False},
        slo={"itl_ms_p50": 25},  # 10 ms up to 16 users, 20 ms at 32, 40 ms at 64: reached at 40
    )
    run = simulate({"a": FLAT}, plan)
    taken, steering = placed(run)
    roles = [role for _, _, role in taken]
    assert roles[:4] == ["planned"] * 4
    assert set(roles[4:]) <= {"refined", "bisected"}
    assert 1 <= roles.count("bisected") <= 2
    assert roles.count("refined") <= 2
    assert roles == sorted(roles, key=["planned", "refined", "bisected"].index)
    bisected = [load for _, load, role in taken if role == "bisected"]
    assert all(32 < load < 128 for load in bisected)
    assert [step for step, _, _ in taken] == list(range(len(taken)))
    again, _ = placed(run, repeat=1, extras=tuple(steering.extras))
    assert [load for _, load, _ in again] == sorted(load for _, load, _ in taken)
    assert {(step, load) for step, load, _ in again} == {(step, load) for step, load, _ in taken}
