"""How far each measured figure is from what is predicted with other constants."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.fitting.closedform import closed_form
from loadstair.fitting.factors import Scales, scaled
from loadstair.fitting.figures import Figure, Known, MeasuredStep
from loadstair.fitting.leastsquares import FloatArray
from loadstair.forecast.fleet import Fleet
from loadstair.plan.model import Plan

MODEL_SD: Mapping[Figure, float] = {Figure.TOKENS_PER_S: 0.02, Figure.TPOT_MS: 0.02, Figure.TTFT_MS: 0.06}
"""Of logarithms: how far the model may be off a figure by itself, however well that was measured. TTFT has network,
tokenizer and HTTP in it, which the model leaves out."""
QUEUE = 2.0
"""A TTFT foretold at so many times its closed form is the length of a queue, and says little of a step's time."""

Foretelling = Mapping[tuple[str, float], Mapping[Figure, float]]
"""By topology and load, as far as could be foretold."""


@dataclass(frozen=True, slots=True)
class _Compared:
    step: MeasuredStep
    figure: Figure
    log_at_forecast: float
    """Measured over foretold, and closed form: what a change of the closed form is held against."""
    sd: float


class LogRatios:
    """Measured over predicted, each logarithm over its standard deviation.

    What is predicted is a forecast, changed as the closed form changes from the forecast's constants to others: the
    forecast knows queues and phases, the closed form is fast.
    """

    def __init__(
        self,
        plan: Plan,
        fleets: Mapping[str, Fleet],
        used: Sequence[str],
        measured: Sequence[MeasuredStep],
        forecast: Foretelling,
        forecast_scales: Scales,
    ) -> None:
        """`used`: the constants that the factors stand for."""
        self._plan = plan
        self._fleets = fleets
        self._used = used
        self._steps = [step for step in measured if (step.topology, step.load) in forecast]
        self._compared = list(self._comparable(forecast, forecast_scales))

    def __call__(self, scales: Scales) -> FloatArray:
        figures = self._figures(scales)
        return np.array(
            [
                (one.log_at_forecast - math.log(figures[one.step.topology, one.step.load][one.figure])) / one.sd
                for one in self._compared
            ]
        )

    def _comparable(self, forecast: Foretelling, scales: Scales) -> Iterator[_Compared]:
        figures = self._figures(scales)
        for step in self._steps:
            key = step.topology, step.load
            for figure, known in step.figures.items():
                foretold, closed = forecast[key].get(figure), figures[key].get(figure)
                if foretold is None or closed is None:
                    continue
                if figure is Figure.TTFT_MS and foretold > QUEUE * closed:
                    continue
                yield _Compared(step, figure, math.log(known.value / foretold * closed), _sd(figure, known))

    def _figures(self, scales: Scales) -> Foretelling:
        efficiencies = scaled(scales, self._used)
        return {
            (step.topology, step.load): closed_form(self._fleets[step.topology], self._plan, step.load, efficiencies)
            for step in self._steps
        }


def _sd(figure: Figure, known: Known) -> float:
    return math.hypot(MODEL_SD[figure], known.log_sd)
