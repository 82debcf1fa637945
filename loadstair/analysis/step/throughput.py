"""What arrived inside the hold window, as rates over equal slices of it.

Throughput is never completed requests over elapsed time: requests that straddle the window's ends would count whole
or not at all, and ramps and drains would dilute it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.step.latency import BoolArray, FloatArray, int_column
from loadstair.samples.arrivals import Piece
from loadstair.samples.frame import IntArray, Samples
from loadstair.samples.record import Outcome
from loadstair.units import NS_PER_S

SLICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """[start_ns, end_ns)."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns:
            raise ValueError(f"a window that ends {self.start_ns - self.end_ns} ns before it starts")

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / NS_PER_S

    def edges_ns(self, parts: int) -> IntArray:
        """Of so many equal parts; shape [parts + 1]."""
        return self.start_ns + np.arange(parts + 1, dtype=np.int64) * (self.end_ns - self.start_ns) // parts


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicedRate:
    """A rate per second over equal slices of a window; its mean is the rate of the window."""

    per_slice: FloatArray
    n: int
    """Events counted (not their weight)."""

    @property
    def mean(self) -> float:
        return float(self.per_slice.mean())


def token_rates(samples: Samples, windows: Sequence[Window], slices: int = SLICES) -> list[SlicedRate]:
    """Tokens that arrived inside each window, whatever their request's tag or outcome; all windows in one pass.

    Tokens of an arrival: as its chunk says, 0 included, where any chunk of its request says; else an equal share of
    what `usage` counts for the request, be it more or less than one; else one.

    Less than one where a server sends a token's text in several chunks. A `usage` of 0 for text that came is no count.
    """
    chunks = samples.arrivals.chunks
    counted = samples.requests["output_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((chunks > 0) & (counted > 0), counted / chunks, 1.0)
    sums = np.zeros((len(windows), slices))
    n = [0] * len(windows)
    for piece in samples.arrivals.pieces():
        if not len(piece.gap_ns):
            continue
        time_ns = piece.times_ns()
        first_ns, last_ns = int(time_ns.min()), int(time_ns.max())
        near = [i for i, window in enumerate(windows) if first_ns < window.end_ns and last_ns >= window.start_ns]
        tokens = _tokens(piece, share[piece.requests]) if near else None
        for i in near:
            inside = _slice_of(time_ns, windows[i], slices)
            # Before the window is counted in the first place, after it in the last.
            sums[i] += np.bincount(inside, weights=tokens, minlength=slices + 2)[1:-1]
            n[i] += len(inside) - int(np.count_nonzero((inside == 0) | (inside == slices + 1)))
    return [
        SlicedRate(per_slice=own / (window.duration_s / slices), n=count)
        for own, window, count in zip(sums, windows, n, strict=True)
    ]


def token_rate(samples: Samples, window: Window, slices: int = SLICES) -> SlicedRate:
    """`token_rates` of one window."""
    (rate,) = token_rates(samples, [window], slices)
    return rate


def _tokens(piece: Piece, share: FloatArray) -> FloatArray | None:
    """Shape as the piece's chunks; None where each is one token."""
    chunks = np.diff(piece.offsets)
    said = np.zeros(len(chunks), dtype=bool)
    if piece.tokens is not None:
        request = np.repeat(np.arange(len(chunks)), chunks)
        said = np.bincount(request, weights=piece.tokens, minlength=len(chunks)) > 0
    if (said | (share == 1.0) | (chunks == 0)).all() and (piece.tokens is None or (piece.tokens == 1).all()):
        return None
    tokens = np.repeat(share, chunks)
    return tokens if piece.tokens is None else np.where(np.repeat(said, chunks), piece.tokens, tokens)


def _slice_of(time_ns: IntArray, window: Window, slices: int) -> IntArray:
    """1 … slices; 0 before the window, slices + 1 from its end on."""
    duration_ns = window.end_ns - window.start_ns
    # As offsets from the start: the product of an epoch in ns would not fit.
    place = np.clip(time_ns - window.start_ns, -1, duration_ns) * slices // duration_ns + 1
    return np.maximum(0, place)


def sliced_rate(time_ns: IntArray, weight: FloatArray | None, window: Window) -> SlicedRate:
    """Rate of events (sorted by time) inside the window; `weight` None counts each as one."""
    first, last = np.searchsorted(time_ns, [window.start_ns, window.end_ns], side="left")
    # As offsets from the start: float64 holds those exactly, epoch ns it does not.
    inside = time_ns[first:last] - window.start_ns
    duration_ns = window.end_ns - window.start_ns
    position = np.minimum(inside * SLICES // duration_ns, SLICES - 1)
    sums = np.bincount(position, weights=None if weight is None else weight[first:last], minlength=SLICES)
    return SlicedRate(per_slice=sums / (window.duration_s / SLICES), n=int(last - first))


def completion_rate(samples: Samples, wanted: BoolArray | None, window: Window) -> SlicedRate:
    """Successful requests per second that *ended* inside the window; `wanted` (shape [n]) narrows them."""
    chosen = (samples.requests["outcome"] == Outcome.OK).to_numpy(dtype=bool)
    if wanted is not None:
        chosen = chosen & wanted
    return sliced_rate(np.sort(int_column(samples.requests, "end_ns")[chosen]), None, window)


def in_flight_mean(samples: Samples, window: Window) -> float:
    """Mean number of requests under way in the window (time average)."""
    begun = np.clip(int_column(samples.requests, "dispatch_ns"), window.start_ns, window.end_ns)
    ended = np.clip(int_column(samples.requests, "end_ns"), window.start_ns, window.end_ns)
    return float((ended - begun).sum() / (window.end_ns - window.start_ns))


def in_flight_over(samples: Samples, edges_ns: IntArray) -> FloatArray:
    """The same between each two edges, which rise; shape [edges - 1]. All in one pass over the requests."""
    start_ns, at_ns = edges_ns[0], (edges_ns - edges_ns[0]).astype(np.float64)
    under_way_ns = _since(int_column(samples.requests, "dispatch_ns") - start_ns, at_ns) - _since(
        int_column(samples.requests, "end_ns") - start_ns, at_ns
    )
    return np.asarray(np.diff(under_way_ns) / np.diff(at_ns), dtype=np.float64)


def _since(events_ns: IntArray, at_ns: FloatArray) -> FloatArray:
    """Shape of `at_ns`, ascending: what has passed since each event before, summed."""
    events = np.sort(events_ns).astype(np.float64)
    before = np.searchsorted(events, at_ns)
    return np.asarray(before * at_ns - np.concatenate([[0.0], np.cumsum(events)])[before], dtype=np.float64)
