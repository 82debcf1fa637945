"""What a finished step means for the climb: once more, on, or no further. Asked while the run goes on."""

import math
from collections.abc import Sequence

import numpy as np

from loadstair.analysis.statistics.bootstrap import interval, ratio
from loadstair.analysis.statistics.estimate import Severity
from loadstair.analysis.step.pool import JudgedStep, LoadStep
from loadstair.analysis.step.verdict import FEW_SAMPLES, REQUESTS_FAILED, UNCHANGED_BY_REPEATING

GAIN_MAX = 1.05
"""Throughput over the best before, as the upper end of its interval, up to which a step is taken to gain nothing."""
GROWTH_SHARE_MIN = 0.8
"""Of the load's growth since the best step, that the median e2e has grown by in deep saturation: all that is added
waits."""


def worth_repeating(judged: JudgedStep) -> bool:
    """Whether the step is invalid for reasons that may be gone the next time."""
    reasons = {finding.id for finding in judged.findings if finding.severity is Severity.INVALID}
    if REQUESTS_FAILED in reasons:
        reasons.discard(FEW_SAMPLES)  # few succeeded because they failed, not because the hold is short
    return bool(reasons) and not reasons & UNCHANGED_BY_REPEATING


def stop_reason(steps: Sequence[LoadStep], rng: np.random.Generator) -> str | None:
    """Why more load would show nothing new; None where it may. `steps` in the order of their load, invalid ones too.

    Failure: the highest step is invalid because its requests failed. Deep saturation: the two highest carry no more
    than the best before them, and what was added since only waits. One such step could be noise, two are believed.
    """
    if not steps:
        return None
    last = steps[-1]
    if not last.valid:
        failed = any(finding.id == REQUESTS_FAILED for finding in last.reasons)
        return f"requests failed at load {last.load:g}" if failed else None
    valid = [step for step in steps if step.valid]
    if len(valid) < 3:
        return None
    best = max(valid[:-2], key=lambda step: step.tokens.value)
    if all(_only_waits(step, best, rng) for step in valid[-2:]):
        return f"deep in saturation: loads {valid[-2].load:g} and {last.load:g} carry no more than {best.load:g}"
    return None


def _only_waits(step: LoadStep, best: LoadStep, rng: np.random.Generator) -> bool:
    gained = ratio(step.tokens, best.tokens, rng)
    now, then = step.percentile("e2e", "p50"), best.percentile("e2e", "p50")
    if gained is None or now is None or then is None or then.value <= 0:
        return False
    if interval(gained.log_draws)[1] > math.log(GAIN_MAX):
        return False
    return now.value / then.value > 1 + GROWTH_SHARE_MIN * (step.load / best.load - 1)
