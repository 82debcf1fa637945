"""What went wrong in a step or a matrix test, sorted as classical plans do: out of memory, timeout, server error."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from loadstair.analysis.step.latency import e2e_ms
from loadstair.analysis.step.pool import JudgedStep
from loadstair.samples.frame import Samples
from loadstair.samples.record import Outcome
from loadstair.samples.runrecord import Ending, RunRecord

OUT_OF_MEMORY = re.compile(
    r"out of (\w+ )?memory|outofmemory|\boom\b|cannot allocate memory|failed to allocate|insufficient memory",
    re.IGNORECASE,
)
"""As PyTorch (`CUDA out of memory`, `torch.OutOfMemoryError`), llama.cpp, the system and proxies say it."""
INSUFFICIENT_STORAGE = 507
MS_PER_S = 1e3


class FailureKind(StrEnum):
    OUT_OF_MEMORY = "out_of_memory"
    """Only where a response, or the message of the run's end, says so: a server can run out of memory in silence."""
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    kind: FailureKind
    requests: int
    message: str


def failures(
    bursts: Sequence[JudgedStep], samples: Samples, run: RunRecord, latency_s_max: float | None
) -> tuple[Failure, ...]:
    """Of all these steps, valid or not: a request that failed has failed. `samples` of the whole run.

    With `latency_s_max`, as a matrix has it, an answer that took longer has failed too, and so has one that was not
    waited for to its end; in a staircase that one was merely cut off.
    """
    found: Counter[tuple[FailureKind, str]] = Counter()
    for burst in bursts:
        found += _of_step(burst, samples, run, latency_s_max)
    return tuple(Failure(kind=kind, requests=count, message=message) for (kind, message), count in found.items())


def died_in(judged: JudgedStep, run: RunRecord) -> bool:
    """Whether the visit ended because the topology died in this step, and with it perhaps the run."""
    ending, _ = _ending(judged, run)
    return ending is Ending.TOPOLOGY_FAILED and not judged.step.record.tail_complete


def _ending(judged: JudgedStep, run: RunRecord) -> tuple[Ending | None, str | None]:
    """Of the visit, where it ended early: by itself, or with the run."""
    visit = judged.step.visit
    if visit.finished or visit.broke_off is not None:
        return visit.broke_off, visit.broke_off_message
    return run.ending, run.ending_message


def _of_step(
    judged: JudgedStep, samples: Samples, run: RunRecord, latency_s_max: float | None
) -> Counter[tuple[FailureKind, str]]:
    requests = samples.requests
    step = judged.step
    own = requests[((requests["visit"] == step.visit.visit) & (requests["step"] == step.record.step)).fillna(False)]
    died = died_in(judged, run)
    _, message = _ending(judged, run)
    if latency_s_max is None and not died:
        own = own[own["outcome"] != Outcome.KILLED]
    ok = own["outcome"] == Outcome.OK
    found: Counter[tuple[FailureKind, str]] = Counter()
    for outcome, status, error in own.loc[~ok, ["outcome", "status", "error"]].itertuples(index=False, name=None):
        text = error if isinstance(error, str) else None
        code = int(status) if isinstance(status, int | np.integer) else None
        found[_of_request(Outcome(outcome), code, text, message if died else None)] += 1
    if died and ok.all():
        found[_of_request(Outcome.KILLED, None, None, message)] += 0
    if latency_s_max is not None and (slow := int((e2e_ms(own[ok]) >= latency_s_max * MS_PER_S).sum())):
        found[FailureKind.TIMEOUT, f"answered after {latency_s_max:g} s or more"] += slow
    return found


def _of_request(outcome: Outcome, status: int | None, error: str | None, died: str | None) -> tuple[FailureKind, str]:
    """`died`: how the run ended, where the topology died in this burst."""
    told = error or str(outcome).replace("_", " ")
    if status == INSUFFICIENT_STORAGE or OUT_OF_MEMORY.search(told):
        return FailureKind.OUT_OF_MEMORY, told
    if outcome is Outcome.TIMEOUT:
        return FailureKind.TIMEOUT, told
    if outcome is Outcome.KILLED and died is None:
        return FailureKind.TIMEOUT, "had not ended when it was stopped"
    if died is not None and outcome in (Outcome.KILLED, Outcome.DISCONNECTED, Outcome.REFUSED, Outcome.TRUNCATED):
        kind = FailureKind.OUT_OF_MEMORY if OUT_OF_MEMORY.search(died) else FailureKind.SERVER_ERROR
        return kind, f"the server died: {died}"
    return FailureKind.SERVER_ERROR, told
