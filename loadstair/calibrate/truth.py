"""One level's records against the ledger of the server that sent the tokens: how late they were, how far off."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from loadstair.samples.arrivals import offsets_from_lengths
from loadstair.samples.calibration import (
    ITL_ERROR_NS_MAX,
    TTFT_ERROR_NS_MAX,
    CalibrationLevel,
    Timing,
    TimingError,
)
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.record import Outcome, Phase
from loadstair.samples.runrecord import StepRecord
from loadstair.simserver.ledger import LedgerEntry
from loadstair.units import NS_PER_MS, NS_PER_S, s_from_ns

ACHIEVED_SHARE_MIN = 0.99
BUNCHED_SHARE_MAX = 0.01
COUNTING_TOKENS = 2.0
"""By so many tokens a window's ends may cut a user's count, its answers being where they are: chance, no shortfall."""
SERVER_LATE_NS_TOLD = 1.0 * NS_PER_MS
"""From here on a level that did not hold says that the server was late too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a server means to send: the first token `ttft_ns` after it has the request, then one each `gap_ns`."""

    ttft_ns: int
    gap_ns: int

    def service_ns(self, tokens: IntArray) -> IntArray:
        """From the request to its last token."""
        result: IntArray = self.ttft_ns + (tokens - 1) * self.gap_ns
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Requests that ended well, as the client recorded them and as the server wrote them."""

    sent_ns: IntArray
    received_ns: IntArray
    arrivals_ns: IntArray
    """Flat: chunk k of request i is `arrivals_ns[offsets[i] + k]`, and so in `write_ns`."""
    write_ns: IntArray
    offsets: IntArray

    @classmethod
    def matched(cls, samples: Samples, ledger: Mapping[str, LedgerEntry]) -> Self:
        """Those of `samples` of which each chunk of the ledger arrived as one; all must be in the ledger."""
        ids = samples.requests["request_id"].tolist()
        sent = samples.requests["sent_ns"].notna().to_numpy(dtype=bool)
        lengths = np.diff(samples.offsets)
        rows = np.array(
            [row for row, id_ in enumerate(ids) if sent[row] and 0 < lengths[row] == len(ledger[id_].write_ns)],
            dtype=np.int64,
        )
        chosen = samples.take(rows)
        entries = [ledger[ids[row]] for row in rows]
        written = [stamp for entry in entries for stamp in entry.write_ns]
        return cls(
            sent_ns=chosen.requests["sent_ns"].to_numpy(dtype=np.int64),
            received_ns=np.array([entry.received_ns for entry in entries], dtype=np.int64),
            arrivals_ns=chosen.arrivals_ns,
            write_ns=np.array(written, dtype=np.int64),
            offsets=offsets_from_lengths(lengths[rows]),
        )

    def __len__(self) -> int:
        return len(self.sent_ns)

    @property
    def tokens(self) -> IntArray:
        return np.diff(self.offsets)

    def firsts(self, flat: IntArray) -> IntArray:
        return flat[self.offsets[:-1]]

    def gaps(self, flat: IntArray) -> IntArray:
        """Between the chunks of a request, all requests in a row."""
        return np.delete(np.diff(flat), self.offsets[1:-1] - 1)


def held_requests(samples: Samples, step: int) -> Samples:
    """Those dispatched in the step's hold."""
    requests = samples.requests
    mask = (requests["step"] == step) & (requests["phase"] == Phase.HOLD)
    return samples.take(np.flatnonzero(mask.to_numpy(dtype=bool)))


def ended_well(samples: Samples) -> Samples:
    return samples.take(np.flatnonzero((samples.requests["outcome"] == Outcome.OK).to_numpy(dtype=bool)))


def judged_level(
    record: StepRecord, samples: Samples, ledger: Mapping[str, LedgerEntry], schedule: Schedule | None
) -> CalibrationLevel:
    """A level, with the verdict whether the worker held it. `samples`: all requests of the step.

    Without a schedule the server offers what the time that it took for its answers allows.
    """
    held = held_requests(samples, record.step)
    answers = Answers.matched(ended_well(held), ledger)
    level = _measured(record, samples, held, answers)
    offered = _offered_per_s(answers, schedule, record.load)
    late = None if schedule is None else _server_late_ns_p99(answers, schedule)
    window_s = s_from_ns(record.hold_end_ns - record.hold_start_ns)
    why = _failures(level) + _clock(held) + _shortfalls(level, offered, window_s) + _send_times(answers)
    if why and late is not None and late > SERVER_LATE_NS_TOLD:
        why.append(f"the ground truth itself was {late / NS_PER_MS:.1f} ms late (p99)")
    level = replace(level, offered_chunks_per_s=offered, server_late_ns_p99=late)
    return replace(level, held=not why, why="; ".join(why))


def _measured(record: StepRecord, samples: Samples, held: Samples, answers: Answers) -> CalibrationLevel:
    """Not judged yet."""
    window_s = s_from_ns(record.hold_end_ns - record.hold_start_ns)
    ends_ns = ended_well(samples).requests["end_ns"].to_numpy(dtype=np.int64)
    return CalibrationLevel(
        users=round(record.load),
        requests=len(answers),
        failed=len(held) - len(answers),
        chunks_per_s=_inside(samples.arrivals_ns, record) / window_s,
        requests_per_s=_inside(ends_ns, record) / window_s,
        offered_chunks_per_s=None,
        bunched_late_share=int(held.requests["bunched_late"].sum()) / max(1, len(held.arrivals_ns)),
        stamp=_error(answers.arrivals_ns - answers.write_ns),
        way=_error(answers.received_ns - answers.sent_ns),
        ttft=_timing(
            answers.firsts(answers.arrivals_ns) - answers.sent_ns,
            answers.firsts(answers.write_ns) - answers.sent_ns,
        ),
        itl=_timing(answers.gaps(answers.arrivals_ns), answers.gaps(answers.write_ns)),
        server_late_ns_p99=None,
        held=True,
        why="",
    )


def _inside(times_ns: IntArray, record: StepRecord) -> int:
    """How many lie in the hold window."""
    return int(((times_ns >= record.hold_start_ns) & (times_ns < record.hold_end_ns)).sum())


def _error(differences_ns: IntArray) -> TimingError | None:
    if not len(differences_ns):
        return None
    p50, p99, most = np.quantile(np.abs(differences_ns), [0.5, 0.99, 1.0])
    return TimingError(p50_ns=round(p50), p99_ns=round(p99), max_ns=round(most))


def _timing(measured_ns: IntArray, true_ns: IntArray) -> Timing | None:
    error = _error(measured_ns - true_ns)
    if error is None:
        return None
    return Timing(
        error=error,
        p99_ns=round(np.quantile(measured_ns, 0.99)),
        p99_true_ns=round(np.quantile(true_ns, 0.99)),
        n=len(measured_ns),
    )


def _offered_per_s(answers: Answers, schedule: Schedule | None, users: float) -> float | None:
    """Tokens that the users would get if each sent its next request at the moment that it had the last token."""
    if not len(answers):
        return None
    if schedule is not None:
        service_ns = schedule.service_ns(answers.tokens)
    else:
        service_ns = answers.write_ns[answers.offsets[1:] - 1] - answers.received_ns
    return users * int(answers.tokens.sum()) / (int(service_ns.sum()) / NS_PER_S)


def _server_late_ns_p99(answers: Answers, schedule: Schedule) -> int | None:
    if not len(answers):
        return None
    place = np.arange(len(answers.write_ns)) - np.repeat(answers.offsets[:-1], answers.tokens)
    due_ns = np.repeat(answers.received_ns, answers.tokens) + schedule.ttft_ns + place * schedule.gap_ns
    return round(float(np.quantile(answers.write_ns - due_ns, 0.99)))


def _failures(level: CalibrationLevel) -> list[str]:
    if level.failed:
        return [f"{level.failed} of {level.failed + level.requests} requests failed, or lost chunks"]
    return [] if level.requests else ["no request ended"]


def _clock(held: Samples) -> list[str]:
    return ["the wall clock was stepped meanwhile"] if held.requests["clock_step"].any() else []


def _send_times(answers: Answers) -> list[str]:
    late = int((answers.received_ns < answers.sent_ns).sum())
    return [f"{late} requests were recorded as sent after the server had read them"] if late else []


def _shortfalls(level: CalibrationLevel, offered: float | None, window_s: float) -> list[str]:
    why = []
    chance_per_s = COUNTING_TOKENS * math.sqrt(level.users) / window_s
    if offered is not None and level.chunks_per_s + chance_per_s < ACHIEVED_SHARE_MIN * offered:
        why.append(f"{level.chunks_per_s / offered:.1%} of the offered tokens/s arrived")
    if level.bunched_late_share > BUNCHED_SHARE_MAX:
        why.append(f"late reads merged {level.bunched_late_share:.1%} of the tokens")
    for name, timing, limit_ns in (("TTFT", level.ttft, TTFT_ERROR_NS_MAX), ("ITL", level.itl, ITL_ERROR_NS_MAX)):
        if timing is not None and timing.error.p99_ns > limit_ns:
            off = f"{timing.error.p99_ns / NS_PER_MS:.2f} ms off"
            why.append(f"{name} was {off} (p99; at most {limit_ns / NS_PER_MS:g})")
    return why
