"""Asks the analysis what each finished step means and tells the climb where to go: once more, on, or no further."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from loadstair.analysis.onward import stop_reason, worth_repeating
from loadstair.analysis.pool import JudgedStep, LoadStep, pool_load
from loadstair.analysis.precision import precise_enough, rates
from loadstair.analysis.slo import request_limits
from loadstair.analysis.step import measure_visit
from loadstair.analysis.verdict import judge_step
from loadstair.drive.staircase import StepOrder
from loadstair.plan.model import LoadShape, Plan
from loadstair.plan.staircase import Visit, planned_steps
from loadstair.samples.frame import samples_from_tables, telemetry_from_tables
from loadstair.samples.look import Look
from loadstair.samples.runrecord import StepRecord, StepRole, VisitRecord


class Steering:
    """Of one visit. Planned steps keep their place in the plan as their number; those that are added count on from
    there, so that both arms of a comparison send the same requests in the same planned step."""

    def __init__(self, plan: Plan, visit: Visit, telemetry: Callable[[], pa.Table]) -> None:
        """`telemetry` gives what was sampled in this visit so far."""
        self._plan = plan
        self._visit = visit
        self._telemetry = telemetry
        self._rng = np.random.default_rng((plan.seed, visit.visit))
        self._tables: list[pa.Table] = []
        self._judged: list[JudgedStep] = []
        self._steps = planned_steps(plan.load)
        self._planned = 0
        """Taken so far."""
        self._added = 0
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
        limits = None if self._plan.slo is None else request_limits(self._plan.slo)
        telemetry = telemetry_from_tables([self._telemetry()])
        measured = measure_visit(visit, samples_from_tables(self._tables), telemetry, limits)
        self._judged += [JudgedStep(step=step, findings=judge_step(step, self._plan)) for step in measured]

    def precise(self, looks: Sequence[Look]) -> bool:
        """Whether these looks at a hold tell its throughput as precisely as the plan wants."""
        wanted = self._plan.load.precision
        return wanted is None or precise_enough(rates(looks), wanted)

    def next_step(self) -> StepOrder | None:
        """None where the climb is over. Only a staircase is steered: a soak and a spike are what the plan says."""
        steered = self._plan.load.shape is LoadShape.STAIRCASE
        last = self._judged[-1] if self._judged else None
        if steered and last is not None and last.step.record.role is not StepRole.REPEATED and worth_repeating(last):
            return self._add(last.step.record.load, StepRole.REPEATED)
        if self._planned == len(self._steps):
            return None
        if steered and self._plan.load.stop_early:
            self.stopped = stop_reason(self._load_steps(), self._rng)
        return None if self.stopped else self._next_planned()

    def _next_planned(self) -> StepOrder:
        step, self._planned = self._planned, self._planned + 1
        planned = self._steps[step]
        return StepOrder(
            step=step, load=planned.load, at_once=planned.at_once, hold_s=planned.hold_s, tail=planned.tail
        )

    def _add(self, load: float, role: StepRole) -> StepOrder:
        step, self._added = len(self._steps) + self._added, self._added + 1
        return StepOrder(step=step, load=load, role=role)

    def _load_steps(self) -> list[LoadStep]:
        loads = sorted({judged.step.record.load for judged in self._judged})
        return [
            pool_load(
                tuple(judged for judged in self._judged if judged.step.record.load == load), self._plan.slo, self._rng
            )
            for load in loads
        ]
