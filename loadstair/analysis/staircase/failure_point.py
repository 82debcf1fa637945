"""Where a staircase failed first, and of what."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadstair.analysis.step.failures import FailureKind, died_in, failures
from loadstair.analysis.step.pool import LoadStep
from loadstair.samples.frame import Samples
from loadstair.samples.runrecord import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePoint:
    """The first load of a staircase at which a request failed, or the topology died."""

    load: float
    kind: FailureKind
    """Of what happened most often there; out of memory, wherever that was said."""
    message: str
    """In the server's words, as far as there are any."""


def failure_point(steps: Sequence[LoadStep], samples: Samples, run: RunRecord) -> FailurePoint | None:
    """`steps` of one topology in the order of their load; `samples` of the whole run. None where nothing failed."""
    for step in steps:
        died = any(died_in(visit, run) for visit in step.visits)
        if not (step.failed or died):
            continue
        found = failures(step.visits, samples, run, latency_s_max=None)
        worst = max(found, key=lambda one: (one.kind is FailureKind.OUT_OF_MEMORY, one.requests))
        return FailurePoint(load=step.load, kind=worst.kind, message=worst.message)
    return None
