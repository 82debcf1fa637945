"""Output tokens for each joule that a topology's GPUs drew during the holds.

GPUs only: neither the host, nor fans, nor cooling. What the boards say of their power may be a few percent off for
every reading alike; the interval has no part of that, and a ratio of two topologies on the same boards is free of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.statistics.bootstrap import Measured, batch_means, measured, student_draws
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.meanwhile import Meanwhile
from loadstair.analysis.step.measure import VisitStep
from loadstair.analysis.step.pool import LoadStep
from loadstair.analysis.step.power import GpuPower
from loadstair.plan.model import Gpus

BUSY = 0.05
"""Share of the time: a GPU that serves is busy for more, one that belongs to somebody else's idle engine for less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnergy:
    """None where a board does not tell its power, or it is not known which boards are the topology's."""

    output_tokens_per_joule: Measured | None
    power_watts: float | None
    """Mean over the holds, summed over the topology's GPUs."""

    def estimate(self) -> Estimate:
        return Estimate.nothing() if self.output_tokens_per_joule is None else self.output_tokens_per_joule.estimate()


NO_ENERGY = StepEnergy(output_tokens_per_joule=None, power_watts=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Of one topology."""

    by_load: Mapping[float, StepEnergy]
    findings: tuple[Finding, ...]
    """Why there is none, where GPUs were seen."""

    def at(self, load: float | None) -> StepEnergy:
        return NO_ENERGY if load is None else self.by_load.get(load, NO_ENERGY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    watts: FloatArray | None
    """Over the slices of the hold, summed over the topology's GPUs."""
    why: str | None
    """That it is not known; None too where no GPU was seen at all."""


def energy(steps: Sequence[LoadStep], gpus: Gpus | None, rng: np.random.Generator) -> Energy:
    """`gpus`: as the plan has them, None where it does not say how many there are."""
    drawn = {id(visit): _drawn(visit.meanwhile, gpus) for step in steps for visit in step.pooled}
    why = dict.fromkeys(one.why for one in drawn.values() if one.why is not None)
    return Energy(
        by_load={step.load: _step(step, [drawn[id(visit)] for visit in step.pooled], rng) for step in steps},
        findings=tuple(Finding.info("energy.unknown", f"no tokens per joule: {reason}") for reason in why),
    )


def _step(step: LoadStep, drawn: Sequence[_Drawn], rng: np.random.Generator) -> StepEnergy:
    told = [(visit, one.watts) for visit, one in zip(step.pooled, drawn, strict=True) if one.watts is not None]
    if not told:
        return NO_ENERGY
    power = float(np.mean([watts.mean() for _, watts in told]))
    by_repeat = {visit.visit.repeat: visit.tokens.mean / float(watts.mean()) for visit, watts in told}
    if power <= 0 or not all(value > 0 for value in by_repeat.values()):
        return StepEnergy(output_tokens_per_joule=None, power_watts=power)
    within = np.stack([_ratio_draws(visit, watts, rng) for visit, watts in told]).mean(axis=0)
    return StepEnergy(
        output_tokens_per_joule=measured(
            value=float(np.mean(list(by_repeat.values()))),
            by_repeat=by_repeat,
            within=within,
            n=sum(visit.tokens.n for visit, _ in told),
            rng=rng,
        ),
        power_watts=power,
    )


def _ratio_draws(visit: VisitStep, watts: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draws of the ratio of two means over the same slices: its error is that of tokens - ratio × joules.

    Source: Cochran, Sampling Techniques (1977), ch. 6.
    """
    ratio = visit.tokens.mean / float(watts.mean())
    left = batch_means(visit.tokens.per_slice - ratio * watts)
    draws = ratio + student_draws(left.degrees, rng) * left.error / float(watts.mean())
    return np.asarray(np.maximum(draws, 0.0), dtype=np.float64)


def _drawn(meanwhile: Meanwhile, gpus: Gpus | None) -> _Drawn:
    seen = meanwhile.gpu_power
    if not seen:
        return _Drawn(watts=None, why=None)
    own = _own(seen, gpus)
    if own is None:
        return _Drawn(watts=None, why=_whose(seen, gpus))
    silent = [gpu for gpu in own if gpu.watts is None]
    if silent:
        return _Drawn(watts=None, why=f"{_names(silent)} did not tell the power all along")
    return _Drawn(watts=np.sum([gpu.watts for gpu in own if gpu.watts is not None], axis=0), why=None)


def _own(seen: Sequence[GpuPower], gpus: Gpus | None) -> Sequence[GpuPower] | None:
    """The topology's GPUs among those of its host; None where they cannot be told apart."""
    count = 1 if gpus is None else gpus.count
    if len(seen) == count:
        return seen
    busy = [gpu for gpu in seen if gpu.utilization is not None and gpu.utilization > BUSY]
    return busy if gpus is not None and len(busy) == count else None


def _whose(seen: Sequence[GpuPower], gpus: Gpus | None) -> str:
    if gpus is None:
        return f"{len(seen)} GPUs were read, and the plan does not say how many of them it has: give it gpus"
    if len(seen) < gpus.count:
        return f"only {len(seen)} of its {gpus.count} GPUs were read ({_names(seen)})"
    return f"{len(seen)} GPUs were read, it has {gpus.count}, and which of them cannot be told: let it see no others"


def _names(gpus: Sequence[GpuPower]) -> str:
    return ", ".join(gpu.name for gpu in gpus)
