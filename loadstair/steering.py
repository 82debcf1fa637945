"""Asks the analysis what each finished step means and tells the climb where to go: once more, on, or no further."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from loadstair.analysis.staircase.onward import stop_reason, worth_repeating
from loadstair.analysis.staircase.placement import bisect_load, refine_load
from loadstair.analysis.step.measure import measure_visit
from loadstair.analysis.step.pool import JudgedStep, LoadStep, pool_load
from loadstair.analysis.step.precision import precise_enough, rates
from loadstair.analysis.step.slo import request_limits
from loadstair.analysis.step.verdict import judge_step
from loadstair.drive.staircase import StepOrder
from loadstair.plan.model import Load, LoadShape, Plan
from loadstair.plan.staircase import EXTRAS_PER_REFINE, Visit, planned_steps
from loadstair.samples.clocks import on_masters_clock
from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.look import Look
from loadstair.samples.readings import Telemetry, telemetry_from_tables
from loadstair.samples.runrecord import StepRecord, StepRole, VisitRecord


class Steering:
    """Of one visit. Planned steps keep their place in the plan as their number; those that are added count on from
    there, so that both arms of a comparison send the same requests in the same planned step."""

    def __init__(
        self, plan: Plan, visit: Visit, telemetry: Callable[[], pa.Table], extras: Sequence[StepOrder] = ()
    ) -> None:
        """`telemetry` gives what was sampled in this visit so far; `extras` is what the first repeat added."""
        self._plan = plan
        self._visit = visit
        self._telemetry = telemetry
        self._rng = np.random.default_rng((plan.seed, visit.visit))
        self._tables: list[pa.Table] = []
        self._judged: list[JudgedStep] = []
        self._pooled: dict[float, LoadStep] = {}
        """By load, as far as nothing was added to it since."""
        self._route = _route(plan.load, extras)
        self._taken = 0
        """Of the route."""
        self._repeated = 0
        self._lost_load: float | None = None
        """Of the step in which an earlier visit lost workers that were replaced: it is taken again before all else."""
        self.extras = list(extras)
        """Steps that a first repeat added to the plan's; a later one has them on its route."""
        self.stopped: str | None = None
        """Why the climb ended before its last step; None where it did not."""

    def step_done(self, record: StepRecord, table: pa.Table) -> None:
        """`table` has what was recorded since the step before."""
        # What a step's hold began has ended with its tail; of requests that began earlier, the table before tells.
        self._tables = [*self._tables[-1:], table]
        visit = VisitRecord(
            visit=self._visit.visit,
            topology=self._visit.topology.name,
            repeat=self._visit.repeat,
            steps=(record,),
            server_before=None,
            server_after=None,
            drained=False,
        )
        self._judge(visit, samples_from_tables(self._tables), telemetry_from_tables([self._telemetry()]))

    def taken_before(self, visit: VisitRecord, samples: Samples, telemetry: Telemetry) -> None:
        """An earlier visit of this repeat that broke off, with its own `samples`: its steps (it has some) are not
        taken again, and count for what comes next. For before the first step."""
        self._judge(visit, samples, telemetry)
        taken = {step.step for step in visit.steps}
        self._route = [order for order in self._route if order.step not in taken]
        self._repeated += sum(step.role is StepRole.REPEATED for step in visit.steps)
        self.stopped = self.stopped or visit.stopped
        last = visit.steps[-1]
        replaced = self._plan.load.on_worker_lost == "replace" and bool(last.workers_lost)
        self._lost_load = last.load if replaced else None

    def _judge(self, visit: VisitRecord, samples: Samples, telemetry: Telemetry) -> None:
        limits = None if self._plan.slo is None else request_limits(self._plan.slo)
        samples = on_masters_clock(samples, [visit])
        measured = measure_visit(visit, samples, telemetry, limits)
        for step in measured:
            self._judged.append(JudgedStep(step=step, findings=judge_step(step, self._plan)))
            self._pooled.pop(step.record.load, None)

    def precise(self, looks: Sequence[Look]) -> bool:
        """Whether these looks at a hold tell its throughput as precisely as the plan wants."""
        wanted = self._plan.load.precision
        return wanted is None or precise_enough(rates(looks), wanted)

    def next_step(self) -> StepOrder | None:
        """None where the climb is over. Only a staircase is steered: a soak and a spike are what the plan says."""
        if self._lost_load is not None:
            load, self._lost_load = self._lost_load, None
            return self._again(load)
        if self._plan.load.shape is not LoadShape.STAIRCASE:
            return self._next_of_route()
        last = self._judged[-1] if self._judged else None
        if last is not None and last.step.record.role is not StepRole.REPEATED and worth_repeating(last):
            return self._again(last.step.record.load)
        climbing = self._taken < len(self._route) and self.stopped is None
        if climbing and self._plan.load.stop_early:
            self.stopped = stop_reason(self._load_steps(), self._rng)
        if climbing and self.stopped is None:
            return self._next_of_route()
        return self._extra() if self._visit.repeat == 0 else None

    def _next_of_route(self) -> StepOrder | None:
        if self._taken == len(self._route):
            return None
        self._taken += 1
        return self._route[self._taken - 1]

    def _again(self, load: float) -> StepOrder:
        number = len(planned_steps(self._plan.load)) + EXTRAS_PER_REFINE * self._plan.load.refine + self._repeated
        self._repeated += 1
        return StepOrder(step=number, load=load, role=StepRole.REPEATED)

    def _extra(self) -> StepOrder | None:
        """As many for the knee as the plan allows, then as many for the SLO."""
        for role in (StepRole.REFINED, StepRole.BISECTED):
            load = self._place(role) if self._count(role) < self._plan.load.refine else None
            if load is not None:
                step = len(planned_steps(self._plan.load)) + len(self.extras)
                self.extras.append(StepOrder(step=step, load=load, role=role))
                return self.extras[-1]
        return None

    def _count(self, role: StepRole) -> int:
        return sum(order.role is role for order in self.extras)

    def _place(self, role: StepRole) -> float | None:
        if role is StepRole.BISECTED:
            return bisect_load(self._load_steps())
        if self._count(StepRole.BISECTED):
            return None  # the knee had its turn
        return refine_load(self._load_steps(), self._rng)

    def _load_steps(self) -> list[LoadStep]:
        for load in sorted({judged.step.record.load for judged in self._judged} - self._pooled.keys()):
            same = tuple(judged for judged in self._judged if judged.step.record.load == load)
            self._pooled[load] = pool_load(same, self._plan.slo, self._rng)
        return [self._pooled[load] for load in sorted(self._pooled)]


def _route(load: Load, extras: Sequence[StepOrder]) -> list[StepOrder]:
    """The plan's steps in their order, with the extra ones where their load belongs."""
    planned = [
        StepOrder(step=step, load=one.load, at_once=one.at_once, hold_s=one.hold_s, tail=one.tail)
        for step, one in enumerate(planned_steps(load))
    ]
    return sorted([*planned, *extras], key=lambda order: order.load) if extras else planned
