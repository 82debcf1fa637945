"""Where one more step tells most: around the knee, and between the loads that meet the SLO and those that violate it.

Asked while a run goes on, with the steps of one visit.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from loadstair.analysis.staircase.curve import Curve, curve_of
from loadstair.analysis.staircase.knee import fit_laws
from loadstair.analysis.statistics.bootstrap import interval
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.pool import LoadStep
from loadstair.analysis.step.verdict import REQUESTS_FAILED

KNEE_KNOWN = 0.05
"""Standard deviation of the knee's logarithm below which a further step is not worth its time: some ±10 %."""
BRACKET_KNOWN = 1.1
"""Violating load over meeting load at which the SLO's capacity is known well enough."""
PLACES = (0.25, 0.5, 0.75)
"""Between two neighbouring loads, as shares of the way on a logarithmic scale."""


def refine_load(steps: Sequence[LoadStep], rng: np.random.Generator) -> float | None:
    """The load, not measured yet and as round as the others, between those around the knee, whose throughput would tell
    most of where the knee lies; None where it is known, has too few loads to be fitted, or no load lies between.

    The draws of the laws that follow the steps give the knee and the throughput expected at each candidate together.
    As far as both are normal, measuring there takes cov² / (var + noise²) off the knee's variance. A load far from the
    knee can promise more than one beside it, but only if the law holds that far: near the knee it need not.
    """
    curve = curve_of([step for step in steps if step.valid], rng)
    if curve is None:
        return None
    laws = fit_laws(curve).believed()
    if not laws:
        return None
    log_knees = np.concatenate([law.log_knee_draws for law in laws.values()])
    inside = np.clip(log_knees, math.log(curve.lowest), math.log(curve.highest))
    low, high = np.exp(interval(inside))
    candidates = _candidates([step.load for step in steps], curve, float(low), float(high))
    if not len(candidates) or inside.std() < KNEE_KNOWN:
        return None
    expected = np.concatenate([law.log_tokens_at(candidates) for law in laws.values()])
    noise = np.interp(np.log(candidates), np.log(curve.loads), curve.spread)
    off = expected - expected.mean(axis=0)
    shared = (off * (inside - inside.mean())[:, None]).mean(axis=0)
    gained = shared**2 / ((off**2).mean(axis=0) + noise**2)
    return float(candidates[int(gained.argmax())])


def _candidates(measured: Sequence[float], curve: Curve, low: float, high: float) -> FloatArray:
    """Between the neighbours of the knee's interval [low, high]."""
    below = max((load for load in measured if load <= low), default=curve.lowest)
    above = min((load for load in measured if load >= high), default=curve.highest)
    between = [
        _rounded(before * (after / before) ** place, measured)
        for before, after in pairwise(measured)
        for place in PLACES
    ]
    inside = sorted({load for load in between if below < load < above} - set(measured))
    return np.array(inside, dtype=np.float64)


def _rounded(load: float, measured: Sequence[float]) -> float:
    """To a whole number where all loads are; rates that are not have two digits."""
    if all(one == int(one) for one in measured):
        return float(round(load))
    return float(f"{load:.2g}")


def slo_bracket(steps: Sequence[LoadStep]) -> tuple[LoadStep, LoadStep] | None:
    """The highest step up to which all are known to meet the SLO, and the first above it that is known to violate it,
    or failed its requests; None without either. `steps` in the order of their load."""
    met = None
    for step in steps:
        if step.valid and step.slo_met is True:
            met = step
            continue
        if met is None:
            return None
        if _violates(step):
            return met, step
    return None


def _violates(step: LoadStep) -> bool:
    if step.valid:
        return step.slo_met is False
    return any(finding.id == REQUESTS_FAILED for finding in step.reasons)


def bisect_load(steps: Sequence[LoadStep]) -> float | None:
    """A round load half-way, on a logarithmic scale, between the loads of `slo_bracket`; None where they are close
    enough, or nothing lies between that was not measured already."""
    bracket = slo_bracket(steps)
    if bracket is None:
        return None
    met, violating = (step.load for step in bracket)
    load = _rounded(math.sqrt(met * violating), [step.load for step in steps])
    if violating <= BRACKET_KNOWN * met or not met < load < violating or any(step.load == load for step in steps):
        return None
    return load
