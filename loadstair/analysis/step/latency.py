"""Latency of single requests: TTFT, ITL, TPOT, E2E, and stalls.

Only requests that succeeded and were dispatched in the hold window enter (`latency_rows`): failed ones have no
latency, and those of the warm-up saw another load. docs/glossary.md compares the definitions of other tools.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.record import Outcome, Phase
from loadstair.units import NS_PER_MS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STALL_FACTOR = 5.0
STALL_NS_MIN = 200 * NS_PER_MS


def latency_rows(samples: Samples) -> IntArray:
    """Positions of the requests that latency is told from, in the order of their dispatch."""
    requests = samples.requests
    wanted = (requests["phase"] == Phase.HOLD) & (requests["outcome"] == Outcome.OK)
    rows = np.flatnonzero(wanted.to_numpy(dtype=bool))
    order = np.argsort(int_column(requests, "dispatch_ns")[rows], kind="stable")
    return rows[order]


def int_column(requests: pd.DataFrame, name: str) -> IntArray:
    """A column without nulls."""
    return requests[name].to_numpy(dtype=np.int64)


def difference_ms(requests: pd.DataFrame, later: str, earlier: str) -> FloatArray:
    """Shape [n]; NaN where either end was not observed. Subtracted as integers: epoch ns do not fit a float64."""
    return (requests[later] - requests[earlier]).to_numpy(dtype=np.float64, na_value=np.nan) / NS_PER_MS


def ttft_ms(requests: pd.DataFrame) -> FloatArray:
    """Time to first token: the first chunk that carried content or reasoning text, minus the first send system call."""
    return difference_ms(requests, "first_token_ns", "sent_ns")


def ttft_due_ms(requests: pd.DataFrame) -> FloatArray:
    """TTFT from when the schedule wanted the request sent (open loop): what a user who came then has waited."""
    return difference_ms(requests, "first_token_ns", "due_ns")


def e2e_ms(requests: pd.DataFrame) -> FloatArray:
    """First send system call to the last token."""
    return difference_ms(requests, "last_token_ns", "sent_ns")


def e2e_due_ms(requests: pd.DataFrame) -> FloatArray:
    """E2E from when the schedule wanted the request sent (open loop)."""
    return difference_ms(requests, "last_token_ns", "due_ns")


def ttft_waited_ms(requests: pd.DataFrame) -> FloatArray:
    """What a user has waited for the first token: in an open loop since the request was due, however late it was sent,
    in a closed one since it was sent. An SLO is held against this."""
    return _since_due_or_sent(ttft_due_ms(requests), ttft_ms(requests))


def e2e_waited_ms(requests: pd.DataFrame) -> FloatArray:
    """As `ttft_waited_ms`, for the last token."""
    return _since_due_or_sent(e2e_due_ms(requests), e2e_ms(requests))


def _since_due_or_sent(since_due: FloatArray, since_sent: FloatArray) -> FloatArray:
    return np.where(np.isnan(since_due), since_sent, since_due)


def tpot_ms(requests: pd.DataFrame) -> FloatArray:
    """(last token - first token) / (output tokens - 1); NaN below two tokens, or where the server did not count."""
    tokens = requests["output_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    gaps = np.where(tokens >= 2, tokens - 1, np.nan)
    return difference_ms(requests, "last_token_ns", "first_token_ns") / gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Gaps between token-carrying arrivals of the same request, all requests pooled."""

    gap_ns: IntArray
    request: IntArray
    """Shape as `gap_ns`: position of the request that it belongs to."""


def itl_gaps(samples: Samples) -> Gaps:
    """Inter-token latency: every gap between token-carrying arrivals.

    A chunk with several tokens is one arrival. Tokens that share a stamp give gaps of 0. For few requests: 16 bytes
    each.
    """
    found = [(piece.first, *piece.gaps()) for piece in samples.arrivals.pieces()]
    nothing = np.zeros(0, np.int64)
    return Gaps(
        gap_ns=np.concatenate([nothing, *(gap_ns for _, gap_ns, _ in found)]),
        request=np.concatenate([nothing, *(first + request for first, _, request in found)]),
    )


def gaps_beyond(samples: Samples, limit_ms: float) -> IntArray:
    """How many gaps of each request are longer; shape [n]."""
    beyond = np.zeros(len(samples), np.int64)
    for piece in samples.arrivals.pieces():
        gap_ns, request = piece.gaps()
        late = request[gap_ns > limit_ms * NS_PER_MS]
        beyond[piece.requests] = np.bincount(late, minlength=len(piece.offsets) - 1)
    return beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Gaps above max(5 × that request's median gap, 200 ms)."""

    count: int
    requests: int
    """Requests with at least one."""
    longest_ns: int | None


def stalls(samples: Samples) -> Stalls:
    count, requests, longest = 0, 0, None
    for piece in samples.arrivals.pieces():
        gap_ns, request = piece.gaps()
        # Only requests with a gap above the absolute limit can have a stall, and only for those is a median needed.
        suspect = np.zeros(len(piece.offsets) - 1, dtype=bool)
        suspect[request[gap_ns > STALL_NS_MIN]] = True
        if suspect.any():
            own = suspect[request]
            stalled, owners = _stalled(gap_ns[own], request[own])
            count += len(stalled)
            requests += len(np.unique(owners))
            longest = max(longest or 0, int(stalled.max())) if len(stalled) else longest
    return Stalls(count=count, requests=requests, longest_ns=longest)


def _stalled(gap_ns: IntArray, request: IntArray) -> tuple[IntArray, IntArray]:
    """Those of these gaps that are stalls, and whose they are. `request` ascending."""
    order = np.lexsort((gap_ns, request))
    starts = np.flatnonzero(np.diff(request, prepend=-1))
    counts = np.diff(np.append(starts, len(request)))
    # The two middle gaps of each request, which are one where their number is odd.
    low, high = (gap_ns[order[starts + middle]] for middle in ((counts - 1) // 2, counts // 2))
    limit = np.maximum(STALL_FACTOR * (low + high) / 2, STALL_NS_MIN)
    beyond = gap_ns > np.repeat(limit, counts)
    return gap_ns[beyond], request[beyond]
