"""A fit as plain values: what `loadstair fit --json` prints. Unknown is null."""

from dataclasses import asdict

from loadstair.fitting.figures import Figure
from loadstair.fitting.fit import Fit, FittedStep
from loadstair.fitting.leastsquares import FittedFactor
from loadstair.fitting.verdict import factor_words, verdict, verdict_words

SCHEMA = 1
Values = dict[str, object]


def fit_values(fit: Fit, *, run: str, started: str) -> Values:
    """`run`, `started`: of the measured run, its name and when."""
    return {
        "schema": SCHEMA,
        "run": run,
        "started": started,
        "mode": str(fit.mode),
        "model": fit.model,
        "gpus": list(fit.gpus),
        "tensor_parallel": list(fit.tensor_parallel),
        "verdict": str(verdict(fit)),
        "words": verdict_words(fit),
        "error_before": fit.error_before,
        "error_after": fit.error_after,
        "factors": [_factor_values(one, fit) for one in fit.factors],
        "steps": [_step_values(one) for one in fit.steps],
        "notes": [*fit.notes, *factor_words(fit)],
        "efficiencies": asdict(fit.efficiencies),
    }


def _factor_values(one: FittedFactor, fit: Fit) -> Values:
    return {
        "name": one.factor.name,
        "words": one.factor.words,
        "are_times": one.factor.are_times,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "held": one.held,
        "at_bound": one.at_bound,
        "constants": [name for name in one.factor.constants if name in fit.constants],
    }


def _step_values(step: FittedStep) -> Values:
    return {
        "topology": step.topology,
        "load": step.load,
        "error_before": step.error_before,
        "error_after": step.error_after,
        **{
            str(figure): {
                "measured": step.measured.get(figure),
                "before": step.before.get(figure),
                "after": step.after.get(figure),
            }
            for figure in Figure
        },
    }
