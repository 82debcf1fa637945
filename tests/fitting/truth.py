"""Staircases that the model itself made, with constants that the test knows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from loadstair.fitting.factors import Scales, scaled
from loadstair.fitting.figures import Figure, Known, MeasuredStep
from loadstair.fitting.fit import Fit
from loadstair.fitting.leastsquares import FittedFactor
from loadstair.forecast.steps import foretold
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import Plan
from tests.forecast.plans import MODEL, TP4, TWO_TP2, known_fleet, plan_of

LOG_SD = 0.003
LONG = {"model": MODEL, "input_tokens": {"mean": 1500, "cv": 0.1}, "output_tokens": {"mean": 100, "cv": 0.1}}
STEPS = [1, 4, 16, 64]

Noise = Callable[[], float]
"""A factor on each figure."""


def telling_plan(**load: Any) -> Plan:
    """Two topologies and prompts long enough to tell every factor from the others."""
    return plan_of(TP4, TWO_TP2, load={"steps": STEPS, **load}, workload=LONG)


def measured_with(
    plan: Plan,
    scales: Scales,
    *,
    speed: float = 1.0,
    noise: Noise = lambda: 1.0,
    arrivals: Arrivals | None = None,
    log_sd: float = LOG_SD,
) -> list[MeasuredStep]:
    efficiencies = scaled(scales)
    found = []
    for place, topology in enumerate(plan.topologies):
        fleet = known_fleet(plan, place).with_efficiencies(efficiencies)
        engines = [replace(one, scheduler=replace(one.scheduler, speed=speed)) for one in fleet.engines]
        for one in foretold(replace(fleet, engines=tuple(engines)), topology, plan, arrivals, plan.load.steps):
            values = {
                Figure.TOKENS_PER_S: one.output_tokens_per_s,
                Figure.TTFT_MS: one.ttft_ms_p50,
                Figure.TPOT_MS: one.tpot_ms_p50,
            }
            figures = {figure: Known(value * noise(), log_sd) for figure, value in values.items() if value is not None}
            found.append(MeasuredStep(topology=topology.name, load=one.load, figures=figures))
    return found


def by_name(fit: Fit) -> dict[str, FittedFactor]:
    return {one.factor.name: one for one in fit.factors}
