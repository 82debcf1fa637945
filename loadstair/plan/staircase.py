"""The order of a run: which topology is visited when, and how long it will take."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from loadstair.plan.matrix import Burst, bursts, quick_matrix
from loadstair.plan.model import Load, LoadShape, Plan, TopologyPlan

ExpectedRequest = Callable[[TopologyPlan, float], float | None]
"""Seconds that one request takes on a topology at a load; None where it is not known beforehand."""

QUICK_STEPS = 4
QUICK_WARMUP_S = 1.5
QUICK_HOLD_S = 4.0
QUICK_COOLDOWN_S = 0.5
EXTRAS_PER_REFINE = 2
"""Steps that a repeat may add for each of `load.refine`: one for the knee, one for the SLO."""

QUICK_SHAPE = 3
"""A soak and a spike are about time: a hold of 4 s would tell nothing of either."""

RECOVERY_HOLDS = 3
"""How long the usual load is watched after a surge, in holds, where the plan does not say."""

GROWTH_S_MAX = 5.0
LONGEST = 4.0
"""Warm-up's and hold's maximum, in their minimum, where the plan gives none."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    load: float
    hold_s: float
    at_once: bool = False
    """All new users begin together and the hold with them: no growth, no warm-up."""
    tail: bool = True
    """Whether the load stays until the hold's requests have ended. Without, they end in the next step."""


def planned_steps(load: Load) -> tuple[PlannedStep, ...]:
    """Those of one visit, in order. A spike: the usual load, the surge, the usual load, each right after the other."""
    if load.shape is not LoadShape.SPIKE:
        return tuple(PlannedStep(load=step, hold_s=load.hold_s) for step in load.steps)
    usual, surge = load.steps
    surge_s = load.hold_s if load.surge_s is None else load.surge_s
    recovery_s = RECOVERY_HOLDS * load.hold_s if load.recovery_s is None else load.recovery_s
    return (
        PlannedStep(load=usual, hold_s=load.hold_s, tail=False),
        PlannedStep(load=surge, hold_s=surge_s, at_once=True, tail=False),
        PlannedStep(load=usual, hold_s=recovery_s, at_once=True),
    )


def growth_s(load: Load) -> float:
    """The time over which a step's new users begin: the warm-up's first half, at most 5 s."""
    return min(load.warmup_s / 2, GROWTH_S_MAX)


def user_begins_s(growth_s: float, *, seed: int, step: int, rank: int, ordinal: int) -> float:
    """When a user that is new in a step begins, within its growth time: so that prefills do not come together.
    `ordinal`: of the worker with that `rank`."""
    return random.Random(f"{seed}/{step}/{rank}/{ordinal}").random() * growth_s


def warmup_s_longest(load: Load) -> float:
    """When a warm-up ends that has not become stationary; may be less than `warmup_s`, which is the least."""
    return LONGEST * load.warmup_s if load.warmup_s_max is None else load.warmup_s_max


def hold_s_longest(load: Load) -> float:
    """When a hold ends that has not become precise; likewise."""
    return LONGEST * load.hold_s if load.hold_s_max is None else load.hold_s_max


def quick(plan: Plan, expected_e2e_s: ExpectedRequest) -> Plan:
    """The same plan, short: 4 of the steps with the ends kept, one repeat, short holds; intervals come from blocks.

    A hold stays long enough for two requests at the highest step, where their time is known; half of the plan's else.
    A matrix keeps its tests; a soak and a spike keep their loads and have a third of their times.
    """
    if plan.matrix is not None:
        update = {"load": plan.load.model_copy(update={"repeats": 1}), "matrix": quick_matrix(plan.matrix)}
        return plan.model_copy(update=update)
    if plan.load.shape is not LoadShape.STAIRCASE:
        return plan.model_copy(update={"load": _quick_shape(plan.load)})
    steps = plan.load.steps
    kept = [round(i * (len(steps) - 1) / (QUICK_STEPS - 1)) for i in range(QUICK_STEPS)]
    expected = [expected_e2e_s(topology, steps[-1]) for topology in plan.topologies]
    known = [seconds for seconds in expected if seconds is not None]
    hold_s = max(QUICK_HOLD_S, 2 * max(known)) if len(known) == len(expected) else plan.load.hold_s / 2
    load = plan.load.model_copy(
        update={
            "steps": tuple(steps[i] for i in sorted(set(kept))),
            "repeats": 1,
            "refine": 0,
            "warmup_s": min(plan.load.warmup_s, QUICK_WARMUP_S),
            "warmup_s_max": min(plan.load.warmup_s, QUICK_WARMUP_S),  # a look at it takes longer than a quick step
            "hold_s": min(plan.load.hold_s, hold_s),
            "cooldown_s": min(plan.load.cooldown_s, QUICK_COOLDOWN_S),
        }
    )
    return plan.model_copy(update={"load": load})


def _quick_shape(load: Load) -> Load:
    times = {name: getattr(load, name) for name in ("hold_s", "surge_s", "recovery_s")}
    shorter = {name: value / QUICK_SHAPE for name, value in times.items() if value is not None}
    return load.model_copy(update={"repeats": 1, **shorter})


def expected_step_s(plan: Plan, topology: TopologyPlan, step: int, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of one step of a visit; the first carries the visit's start, the last its cool-down."""
    if plan.matrix is not None:
        return _expected_burst_s(plan, topology, bursts(plan.matrix)[step], expected_e2e_s)
    load = plan.load
    steps = planned_steps(load)
    one = steps[step]
    tail_s = min(expected_e2e_s(topology, one.load) or 0.0, load.tail_s_max) if one.tail else 0.0
    warmup_s = 0.0 if one.at_once else load.warmup_s
    start_s = VISIT_START_S if step == 0 else 0.0
    end_s = load.cooldown_s if step == len(steps) - 1 else 0.0
    return start_s + warmup_s + one.hold_s + tail_s + end_s


def expected_duration_s(plan: Plan, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of the whole run."""
    return _extras_s(plan, expected_e2e_s) + sum(
        expected_step_s(plan, visit.topology, step, expected_e2e_s)
        for visit in visits(plan)
        for step in range(len(planned_steps(plan.load)) if plan.matrix is None else len(bursts(plan.matrix)))
    )


def _extras_s(plan: Plan, expected_e2e_s: ExpectedRequest) -> float:
    """At the most: no extra step may be worth its time."""
    load = plan.load
    count = load.refine * (EXTRAS_PER_REFINE if plan.slo is not None else 1)
    tails_s = [min(expected_e2e_s(visit.topology, load.steps[-1]) or 0.0, load.tail_s_max) for visit in visits(plan)]
    return count * sum(load.warmup_s + load.hold_s + tail_s for tail_s in tails_s)


def _expected_burst_s(plan: Plan, topology: TopologyPlan, burst: Burst, expected_e2e_s: ExpectedRequest) -> float:
    """The request's time, which is known for the workload's lengths, goes with the length of the answer."""
    longer = burst.output_tokens.mean / plan.workload.output_tokens.mean
    request_s = (expected_e2e_s(topology, burst.users) or 0.0) * longer
    start_s = VISIT_START_S if burst.step == 0 else 0.0
    return start_s + request_s * burst.requests_per_user + burst.growth_s + burst.pause_s
