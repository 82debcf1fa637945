"""`loadstair forecast`: the climb of a measured run on a load in simulated time; and, beside a measurement, what the
same model says of its loads."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from loadstair import clock
from loadstair.drive.staircase import StepOrder, climb
from loadstair.errors import UsageError
from loadstair.fitting.kept import KeptFit
from loadstair.forecast.delays import SERVED
from loadstair.forecast.fleet import Fleet, Unknown, fleet_of
from loadstair.forecast.load import SimulatedLoad
from loadstair.forecast.steps import hold_s_max, predicted
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import LoadShape, Plan, load_words
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import Visit, expected_duration_s, visits
from loadstair.resumption import Remaining
from loadstair.samples.runrecord import PredictedStep, RunRecord
from loadstair.units import NS_PER_S
from loadstair.visitlog import Measuring, VisitLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A plan as far as it can be foretold."""

    plan: Plan
    """One repeat of the topologies that are known."""
    fleets: Mapping[str, Fleet]
    """By topology, each of the plan's."""
    notes: tuple[str, ...]


def forecast_of(plan: Plan, kept: KeptFit | None = None) -> Forecast:
    """`kept`: constants in place of those that are shipped. Raises UsageError where there is nothing to foretell."""
    if plan.matrix is not None:
        raise UsageError("forecast: a matrix plan cannot be forecast: give load.steps in its place")
    known, unknown = _fleets(plan)
    if not known:
        raise UsageError("\n".join(f"forecast: {one.topology} cannot be forecast: {one.why}" for one in unknown))
    fitted_to = () if kept is None else tuple(_fitted_to(plan, known, kept))
    if kept is not None:
        known = {name: fleet.with_efficiencies(kept.efficiencies) for name, fleet in known.items()}
    reduced = _reduced(plan, set(known))
    return Forecast(plan=reduced, fleets=known, notes=(*fitted_to, *_notes(plan, reduced, known, unknown)))


def _fitted_to(plan: Plan, known: Mapping[str, Fleet], kept: KeptFit) -> Iterator[str]:
    engines = [engine for fleet in known.values() for engine in fleet.engines]
    return kept.notes(
        plan.workload.model, sorted({engine.gpu.name for engine in engines}), sorted({engine.tp for engine in engines})
    )


def _fleets(plan: Plan) -> tuple[dict[str, Fleet], list[Unknown]]:
    found = [fleet_of(plan, topology) for topology in plan.topologies]
    known = {one.topology: one for one in found if isinstance(one, Fleet)}
    return known, [one for one in found if isinstance(one, Unknown)]


def _reduced(plan: Plan, known: set[str]) -> Plan:
    """Repeats tell of variation between runs, which the model has none of."""
    left_out = {topology.name for topology in plan.topologies} - known
    return plan.model_copy(
        update={
            "topologies": tuple(topology for topology in plan.topologies if topology.name in known),
            "thresholds": tuple(text for text in plan.thresholds if not any(name in text for name in left_out)),
            "load": plan.load.model_copy(update={"repeats": 1}),
        }
    )


def _notes(plan: Plan, reduced: Plan, known: Mapping[str, Fleet], unknown: list[Unknown]) -> Iterator[str]:
    for one in unknown:
        yield f"{one.topology} is left out of the forecast: {one.why}"
    if len(reduced.thresholds) < len(plan.thresholds):
        yield "thresholds that need a topology which was left out are not judged"
    if plan.load.repeats > 1:
        yield f"one repeat in place of {plan.load.repeats}: the model does not vary from run to run"
    for fleet in known.values():
        yield from fleet.notes
    for fleet in known.values():
        shortened = [load for load in plan.load.steps if hold_s_max(plan, fleet, load) < plan.load.hold_s]
        if shortened:
            least_s = min(hold_s_max(plan, fleet, load) for load in shortened)
            yield (
                f"{fleet.topology}: holds are shorter than load.hold_s from {load_words(shortened[0], plan.load.mode)} "
                f"on, down to {least_s:.1f} s: so many tokens are simulated as the result needs"
            )


def foresee(run: Measuring, told: Forecast) -> None:
    """Takes the place of `measurement.measure`. Raises StorageError or Interrupted."""
    run.progress.begin(expected_duration_s(run.plan, partial(expected_e2e_s, run.plan)))
    start_ns = clock.now_ns()
    with _modules_uncollected():
        for visit in visits(run.plan):
            fleet = told.fleets[visit.topology.name]
            run.journal.fingerprint(visit.topology.name, fleet.fingerprint())
            load = SimulatedLoad(fleet, visit, run.plan, run.arrivals, SERVED, start_ns=start_ns)
            _climb(run, visit, fleet, load)
            start_ns = load.clock.now_ns() + round(run.plan.load.cooldown_s * NS_PER_S)


@contextmanager
def _modules_uncollected() -> Iterator[None]:
    """Keeps the garbage collector from going through all that was imported again and again: a tenth of a forecast."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _climb(run: Measuring, visit: Visit, fleet: Fleet, load: SimulatedLoad) -> None:
    log = VisitLog(
        run,
        Remaining(visit=visit, earlier=()),
        load.gauges,
        server_before=load.gauges.server_counters(),
        workers_wanted=1,
    )

    def next_step() -> StepOrder | None:
        order = log.next_step()
        return None if order is None else _bounded(order, run.plan, fleet)

    steps, drained = climb(load, next_step, run.plan.load, log.hooks(_nothing_to_check))
    log.finished(steps, drained, server_after=load.gauges.server_counters())
    log.keep_telemetry()


def _bounded(order: StepOrder, plan: Plan, fleet: Fleet) -> StepOrder:
    wanted_s = plan.load.hold_s if order.hold_s is None else order.hold_s
    return replace(order, hold_s=min(wanted_s, hold_s_max(plan, fleet, order.load)))


def _nothing_to_check() -> None:
    """No process can die."""


def predicted_steps(plan: Plan, arrivals: Arrivals | None, record: RunRecord) -> tuple[PredictedStep, ...]:
    """Of every load that was measured, as far as it can be foretold; a spike has no steady loads."""
    if plan.matrix is not None or plan.load.shape is LoadShape.SPIKE:
        return ()
    known, _ = _fleets(plan)
    found: list[PredictedStep] = []
    for topology in plan.topologies:
        measured = {step.load for visit in record.visits if visit.topology == topology.name for step in visit.steps}
        if topology.name in known and measured:
            found += predicted(known[topology.name], topology, plan, arrivals, sorted(measured))
    return tuple(found)
