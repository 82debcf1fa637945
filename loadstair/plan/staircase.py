"""The order of a run: which topology is visited when, and how long it will take."""

from collections.abc import Callable
from dataclasses import dataclass

from loadstair.plan.model import Plan, TopologyPlan

ExpectedRequest = Callable[[TopologyPlan, float], float | None]
"""Seconds that one request takes on a topology at a load; None where it is not known beforehand."""

QUICK_STEPS = 4
QUICK_WARMUP_S = 1.5
QUICK_HOLD_S = 4.0
QUICK_COOLDOWN_S = 0.5

VISIT_START_S = 4.0
"""Bringing up simulated engines, nginx and Locust on two cores; only the forecast of the duration uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One climb of the whole staircase on one topology."""

    visit: int
    repeat: int
    topology: TopologyPlan


def visits(plan: Plan) -> tuple[Visit, ...]:
    """Every repeat visits every topology; the order mirrors (AB BA AB …), so that a drift hits both alike."""
    order: list[Visit] = []
    for repeat in range(plan.load.repeats):
        topologies = plan.topologies if repeat % 2 == 0 else tuple(reversed(plan.topologies))
        for topology in topologies:
            order.append(Visit(visit=len(order), repeat=repeat, topology=topology))
    return tuple(order)


def quick(plan: Plan, expected_e2e_s: ExpectedRequest) -> Plan:
    """The same plan, short: 4 of the steps with the ends kept, one repeat, short holds; intervals come from blocks.

    A hold stays long enough for two requests at the highest step, where their time is known; half of the plan's else.
    """
    steps = plan.load.steps
    kept = [round(i * (len(steps) - 1) / (QUICK_STEPS - 1)) for i in range(QUICK_STEPS)]
    expected = [expected_e2e_s(topology, steps[-1]) for topology in plan.topologies]
    known = [seconds for seconds in expected if seconds is not None]
    hold_s = max(QUICK_HOLD_S, 2 * max(known)) if len(known) == len(expected) else plan.load.hold_s / 2
    load = plan.load.model_copy(
        update={
            "steps": tuple(steps[i] for i in sorted(set(kept))),
            "repeats": 1,
            "warmup_s": min(plan.load.warmup_s, QUICK_WARMUP_S),
            "hold_s": min(plan.load.hold_s, hold_s),
            "cooldown_s": min(plan.load.cooldown_s, QUICK_COOLDOWN_S),
        }
    )
    return plan.model_copy(update={"load": load})


def expected_step_s(plan: Plan, topology: TopologyPlan, step: int, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of one step of a visit; the first carries the visit's start, the last its cool-down."""
    load = plan.load
    tail_s = min(expected_e2e_s(topology, load.steps[step]) or 0.0, load.tail_s_max)
    start_s = VISIT_START_S if step == 0 else 0.0
    end_s = load.cooldown_s if step == len(load.steps) - 1 else 0.0
    return start_s + load.warmup_s + load.hold_s + tail_s + end_s


def expected_duration_s(plan: Plan, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of the whole run."""
    return sum(
        expected_step_s(plan, visit.topology, step, expected_e2e_s)
        for visit in visits(plan)
        for step in range(len(plan.load.steps))
    )
