"""A measured staircase beside the model, before and after its constants were fitted to it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loadstair.errors import NothingToFit, UsageError
from loadstair.fitting.factors import ALL_REDUCE, FACTORS, Factor, Scales, scaled, used_constants
from loadstair.fitting.figures import Figure, MeasuredStep
from loadstair.fitting.leastsquares import FittedFactor, fit_factors
from loadstair.fitting.ratios import Foretelling, LogRatios
from loadstair.forecast.fleet import Fleet, Unknown, fleet_of
from loadstair.forecast.steps import Foretold, foretold
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import LoadMode, LoadShape, Plan
from loadstair.serving.efficiencies import Efficiencies

ROUNDS = 2
"""Fits, each from where the last one came to: ratios of closed forms hold near there."""
LOADS_MIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedStep:
    """What was measured of one load, and the forecasts of it. Only the figures that all three have."""

    topology: str
    load: float
    measured: Mapping[Figure, float]
    before: Mapping[Figure, float]
    after: Mapping[Figure, float]

    @property
    def error_before(self) -> float:
        return log_error([(self.measured, self.before)])

    @property
    def error_after(self) -> float:
        return log_error([(self.measured, self.after)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    mode: LoadMode
    """Loads are users, or requests a second."""
    model: str
    gpus: tuple[str, ...]
    tensor_parallel: tuple[int, ...]
    steps: tuple[FittedStep, ...]
    factors: tuple[FittedFactor, ...]
    constants: tuple[str, ...]
    """Those that this run's engines use: the factors stand for no others."""
    efficiencies: Efficiencies
    notes: tuple[str, ...]

    @property
    def error_before(self) -> float:
        """Mean absolute logarithm of predicted over measured, over all figures of all steps."""
        return log_error([(step.measured, step.before) for step in self.steps])

    @property
    def error_after(self) -> float:
        return log_error([(step.measured, step.after) for step in self.steps])


def log_error(pairs: Sequence[tuple[Mapping[Figure, float], Mapping[Figure, float]]]) -> float:
    errors = [abs(math.log(told[figure] / seen[figure])) for seen, told in pairs for figure in seen]
    return sum(errors) / len(errors)


def fit(plan: Plan, arrivals: Arrivals | None, measured: Sequence[MeasuredStep]) -> Fit:
    """Raises UsageError for a plan that the model does not know, NothingToFit where too little is valid."""
    if plan.matrix is not None or plan.load.shape is not LoadShape.STAIRCASE:
        raise UsageError("fit: only a staircase has steady loads to fit to: run a plan with load.steps")
    fleets, unknown = _fleets(plan)
    if not fleets:
        raise UsageError("\n".join(f"fit: {one.topology} is not known to the model: {one.why}" for one in unknown))
    known = [step for step in measured if step.topology in fleets and Figure.TOKENS_PER_S in step.figures]
    _check_loads(known)
    notes = [f"{one.topology} is left out: {one.why}" for one in unknown]
    return _Fitting(plan, arrivals, fleets, known).fit(notes)


def _check_loads(measured: Sequence[MeasuredStep]) -> None:
    if not measured:
        raise NothingToFit("fit: no step is valid, so nothing was measured that one could fit to")
    loads = {step.load for step in measured}
    if len(loads) < LOADS_MIN:
        raise NothingToFit(
            f"fit: only one load ({loads.pop():g}) has valid steps: at one load what is slow cannot be told apart; "
            f"measure at least {LOADS_MIN}"
        )


def _fleets(plan: Plan) -> tuple[dict[str, Fleet], list[Unknown]]:
    found = [fleet_of(plan, topology) for topology in plan.topologies]
    fleets = {one.topology: _at_model_speed(one) for one in found if isinstance(one, Fleet)}
    return fleets, [one for one in found if isinstance(one, Unknown)]


def _at_model_speed(fleet: Fleet) -> Fleet:
    """A simulated engine's own `speed` stands for a GPU that differs from the model: that is what a fit is to find."""
    engines = [replace(engine, scheduler=replace(engine.scheduler, speed=1.0)) for engine in fleet.engines]
    return replace(fleet, engines=tuple(engines))


class _Fitting:
    def __init__(
        self, plan: Plan, arrivals: Arrivals | None, fleets: Mapping[str, Fleet], measured: Sequence[MeasuredStep]
    ) -> None:
        self._plan = plan
        self._arrivals = arrivals
        self._fleets = fleets
        self._measured = measured
        engines = [engine for fleet in fleets.values() for engine in fleet.engines]
        self._tensor_parallel = tuple(sorted({engine.tp for engine in engines}))
        self._gpus = tuple(sorted({engine.gpu.name for engine in engines}))
        self._constants = used_constants([engine.scheduler.step_model for engine in engines])

    def fit(self, notes: Sequence[str]) -> Fit:
        before = told = self._foretell({})
        scales: Scales = {}
        for _ in range(ROUNDS):
            ratios = LogRatios(self._plan, self._fleets, self._constants, self._measured, told, scales)
            factors = fit_factors(self._factors(), ratios)
            if all(one.held for one in factors):
                raise NothingToFit("fit: the valid steps do not tell any constant from the others: measure more loads")
            scales = {one.factor.name: one.value for one in factors}
            told = self._foretell(scales)
        return Fit(
            mode=self._plan.load.mode,
            model=self._plan.workload.model,
            gpus=self._gpus,
            tensor_parallel=self._tensor_parallel,
            steps=tuple(_steps(self._measured, before, told)),
            factors=factors,
            constants=self._constants,
            efficiencies=scaled(scales, self._constants),
            notes=(*notes, *self._notes(before)),
        )

    def _factors(self) -> list[Factor]:
        return [factor for factor in FACTORS if factor is not ALL_REDUCE or max(self._tensor_parallel) > 1]

    def _foretell(self, scales: Scales) -> Foretelling:
        efficiencies = scaled(scales, self._constants)
        return {
            (topology.name, one.load): dict(_figures(one))
            for topology in self._plan.topologies
            if topology.name in self._fleets
            for one in foretold(
                self._fleets[topology.name].with_efficiencies(efficiencies),
                topology,
                self._plan,
                self._arrivals,
                [step.load for step in self._measured if step.topology == topology.name],
            )
        }

    def _notes(self, told: Foretelling) -> Iterator[str]:
        for fleet in self._fleets.values():
            yield from fleet.notes
        for topology in self._plan.topologies:
            speeds = sorted({f"{engine.flags['speed']}" for engine in topology.engines if "speed" in engine.flags})
            if topology.name in self._fleets and speeds:
                yield (
                    f"{topology.name}: speed ({', '.join(speeds)}) is for the fit to find: leave it out of a plan that "
                    "is forecast with these constants"
                )
        if self._plan.workload.prefix.share > 0:
            yield (
                "prompts share a prefix, which the model computes whole: an engine that caches it seems faster than "
                "it is"
            )
        left_out = [step for step in self._measured if (step.topology, step.load) not in told]
        if left_out:
            named = ", ".join(f"{step.topology} at {step.load:g}" for step in left_out)
            yield f"{named}: left out, a forecast of it takes too long"


def _figures(one: Foretold) -> Iterator[tuple[Figure, float]]:
    values = {
        Figure.TOKENS_PER_S: one.output_tokens_per_s,
        Figure.TTFT_MS: one.ttft_ms_p50,
        Figure.TPOT_MS: one.tpot_ms_p50,
    }
    for figure, value in values.items():
        if value is not None and value > 0:
            yield figure, value


def _steps(measured: Sequence[MeasuredStep], before: Foretelling, after: Foretelling) -> Iterator[FittedStep]:
    for step in measured:
        key = step.topology, step.load
        if key not in before or key not in after:
            continue
        shared = [figure for figure in step.figures if figure in before[key] and figure in after[key]]
        yield FittedStep(
            topology=step.topology,
            load=step.load,
            measured={figure: step.figures[figure].value for figure in shared},
            before={figure: before[key][figure] for figure in shared},
            after={figure: after[key][figure] for figure in shared},
        )
