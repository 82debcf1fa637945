"""What a fit says, in words."""

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from loadstair.fitting.figures import Figure
from loadstair.fitting.fit import Fit
from loadstair.fitting.leastsquares import FittedFactor

CLOSE: Final = 0.05
"""A mean error up to here is what the model is off by on what it was made from."""
FAR: Final = 0.15
"""A mean error beyond this, after the fit, is a model that does not describe the engine."""


class Verdict(StrEnum):
    HOLDS = "holds"
    FITTED = "fitted"
    NO_BETTER = "no_better"
    NOT_FOLLOWED = "not_followed"


def verdict(fit: Fit) -> Verdict:
    if fit.error_after > FAR:
        return Verdict.NOT_FOLLOWED
    if fit.error_before <= CLOSE and not any(one.differs for one in fit.factors):
        return Verdict.HOLDS
    return Verdict.FITTED if fit.error_after < fit.error_before else Verdict.NO_BETTER


def verdict_words(fit: Fit) -> str:
    before, after = f"{fit.error_before:.1%}", f"{fit.error_after:.1%}"
    found = verdict(fit)
    if found is Verdict.NOT_FOLLOWED:
        return (
            f"The model does not follow these engines with other constants either: still off by {after} on average "
            f"({before} before). Something that it leaves out decides; do not forecast with this fit."
        )
    if found is Verdict.NO_BETTER:
        return f"No factor brings the forecast nearer (off by {before} before, {after} after): keep what is shipped."
    if found is Verdict.HOLDS:
        return (
            f"The model holds as it is shipped: off by {before} on average, and no factor differs from 1 by more than "
            "its doubt."
        )
    return f"{_speed_words(speed_ratio(fit))} Fitted, the forecast is off by {after} on average, {before} before."


def speed_ratio(fit: Fit) -> float:
    """Measured over predicted tokens a second before the fit, geometric mean over the steps."""
    logs = [math.log(step.measured[Figure.TOKENS_PER_S] / step.before[Figure.TOKENS_PER_S]) for step in fit.steps]
    return math.exp(sum(logs) / len(logs))


def _speed_words(ratio: float) -> str:
    if abs(ratio - 1) < 0.01:
        return "The engines are as fast as the model by tokens a second, but spend their time elsewhere."
    word = "slower" if ratio < 1 else "faster"
    return f"The engines are {word} than the model: {ratio:.2f} of its tokens a second."


def factor_words(fit: Fit) -> Iterator[str]:
    """A line for each factor that has to be explained."""
    for one in fit.factors:
        words = f"{one.factor.name} ({one.factor.words})"
        if one.held:
            yield f"{words} is held at 1: {_why_held(one)}"
        elif one.at_bound:
            yield f"{words} is as far from 1 as it may be: something else is likely the cause"


def _why_held(one: FittedFactor) -> str:
    return (
        f"this run does not tell it from the others; it could be {one.low:.2f} to {one.high:.2f}, and what it "
        "differs by would be in them"
    )
