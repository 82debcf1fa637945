"""A topology's measured steps against what the forecast said of them."""

from collections.abc import Mapping, Sequence

from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.model import LoadMode, load_words
from loadstair.samples.runrecord import PredictedStep, RunRecord

APART = 0.10
"""Share of the predicted throughput by which a measured one must be off, and its interval exclude the prediction."""

Foretold = Mapping[float, PredictedStep]
"""By load; those that were foretold."""


def foretold(run: RunRecord, topology: str) -> Foretold:
    return {one.load: one for one in run.forecast if one.topology == topology}


def parting(topology: str, steps: Sequence[LoadStep], predicted: Foretold, mode: LoadMode) -> Finding | None:
    """From which load on measured and predicted throughput differ, and how; None where they nowhere do.

    `steps` in the order of their load. Only valid ones with an interval can tell.
    """
    for step in steps:
        measured, told = step.tokens.estimate(), predicted.get(step.load)
        if told is None or not step.valid or measured.value is None or measured.low is None or measured.high is None:
            continue
        apart = measured.value / told.output_tokens_per_s - 1 if told.output_tokens_per_s > 0 else 0.0
        if abs(apart) > APART and not measured.low <= told.output_tokens_per_s <= measured.high:
            return Finding.info(
                "forecast.parted",
                f"{topology}: measured and predicted part at {load_words(step.load, mode)}: "
                f"{measured.value:,.0f} output tokens/s [{measured.low:,.0f}, {measured.high:,.0f}] were measured, "
                f"{told.output_tokens_per_s:,.0f} predicted: {abs(apart):.0%} {'more' if apart > 0 else 'less'} than "
                "the forecast says",
            )
    return None
