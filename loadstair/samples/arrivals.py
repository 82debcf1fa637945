"""When each token-carrying chunk of many requests came, in four bytes a chunk.

A million responses of 256 chunks are 2 GB of int64 stamps, and every selection of requests as much again. So the gap to
the chunk before is kept, in int32 ns, and a selection shares its whole's gaps. Work goes in pieces that fit a cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]

PIECE = 1 << 17
"""Chunks in a piece, as far as whole requests allow."""
LONG = np.iinfo(np.int32).min
"""Stands for a gap that no int32 holds: 2.1 s or more."""
TOKEN_TYPES: tuple[type[np.integer], ...] = (np.uint8, np.uint16, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Successive requests of a selection, with their chunks in a row."""

    first: int
    """Position in the selection of the piece's first request."""
    offsets: IntArray
    """Shape [requests + 1]: chunks of the piece's request i are [offsets[i], offsets[i + 1])."""
    gap_ns: IntArray
    """To the chunk before; 0 at the first of a request."""
    first_ns: IntArray
    """Shape [requests]: when the first chunk came."""
    tokens: IntArray | None
    """In each chunk, 0 where its request does not say; None if no request of the whole says."""

    @property
    def requests(self) -> slice:
        return slice(self.first, self.first + len(self.offsets) - 1)

    def times_ns(self) -> IntArray:
        """Of each chunk."""
        since_ns = np.cumsum(self.gap_ns)
        chunks = np.diff(self.offsets)
        filled = np.flatnonzero(chunks)
        # Where a request begins the sum holds all gaps before it, its own first gap being 0.
        since_ns += np.repeat(self.first_ns[filled] - since_ns[self.offsets[filled]], chunks[filled])
        return since_ns

    def gaps(self) -> tuple[IntArray, IntArray]:
        """Every gap within a request, and the request's position in the piece."""
        chunks = np.diff(self.offsets)
        is_gap = np.ones(len(self.gap_ns), dtype=bool)
        is_gap[self.offsets[:-1][chunks > 0]] = False
        return self.gap_ns[is_gap], np.repeat(np.arange(len(chunks)), np.maximum(0, chunks - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Of n requests. Those of request i lie in `gaps_ns` from `starts[i]` on, `chunks[i]` of them."""

    gaps_ns: npt.NDArray[np.int32]
    """Of the whole that this is selected from."""
    long_at: IntArray
    """Positions in `gaps_ns` that hold LONG, ascending."""
    long_ns: IntArray
    """What stands there."""
    tokens: npt.NDArray[np.integer] | None
    """Shape as `gaps_ns`: tokens in each chunk, 0 where that request does not say; None if no request of the whole
    says. As small a type as holds them."""
    starts: IntArray
    chunks: IntArray
    first_ns: IntArray
    """0 for a request without chunks, as `last_ns`."""
    last_ns: IntArray

    def __len__(self) -> int:
        return len(self.chunks)

    def take(self, rows: IntArray) -> "Arrivals":
        """The requests at these positions, in this order."""
        return replace(
            self,
            starts=self.starts[rows],
            chunks=self.chunks[rows],
            first_ns=self.first_ns[rows],
            last_ns=self.last_ns[rows],
        )

    def gap_counts(self) -> IntArray:
        """Shape [n]: one less than there are chunks."""
        return np.maximum(0, self.chunks - 1)

    def pieces(self) -> Iterator[Piece]:
        """All requests in their order, PIECE chunks at a time; a longer request is a piece of its own."""
        ends = np.cumsum(self.chunks)
        first = 0
        while first < len(self):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + PIECE, side="right")))
            yield self._piece(first, last)
            first = last

    def times_ns(self) -> IntArray:
        """All stamps, request after request: for few requests."""
        return _joined([piece.times_ns() for piece in self.pieces()])

    def all_tokens(self) -> IntArray | None:
        """As `times_ns`."""
        if self.tokens is None:
            return None
        return _joined([piece.tokens for piece in self.pieces() if piece.tokens is not None])

    def _piece(self, first: int, last: int) -> Piece:
        starts, chunks = self.starts[first:last], self.chunks[first:last]
        offsets = offsets_from_lengths(chunks)
        place: slice | IntArray
        if bool((starts[1:] == starts[:-1] + chunks[:-1]).all()):
            place = slice(int(starts[0]), int(starts[0] + offsets[-1]))
        else:
            place = positions(starts, chunks)
        gap_ns = self.gaps_ns[place].astype(np.int64)
        if len(self.long_at):
            self._fill_long(gap_ns, place)
        return Piece(
            first=first,
            offsets=offsets,
            gap_ns=gap_ns,
            first_ns=self.first_ns[first:last],
            tokens=None if self.tokens is None else self.tokens[place].astype(np.int64),
        )

    def _fill_long(self, gap_ns: IntArray, place: slice | IntArray) -> None:
        found = np.flatnonzero(gap_ns == LONG)
        if len(found):
            where = found + place.start if isinstance(place, slice) else place[found]
            gap_ns[found] = self.long_ns[np.searchsorted(self.long_at, where)]


class Gathering:
    """Arrivals as they come from files, into arrays made once: joining parts would need twice the memory."""

    def __init__(self, chunks_max: int) -> None:
        """`chunks_max`: as many as may come."""
        self._gaps_ns = np.empty(chunks_max, np.int32)
        self._tokens: npt.NDArray[np.integer] | None = None
        self._filled = 0
        self._parts: list[tuple[IntArray, IntArray, IntArray]] = []
        """Chunks, first and last stamps."""
        self._long: list[tuple[IntArray, IntArray]] = []

    def mark(self) -> tuple[int, int, int]:
        """Where to go back to if what follows turns out to be damaged."""
        return self._filled, len(self._parts), len(self._long)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        if self._tokens is not None:
            self._tokens[mark[0] : self._filled] = 0
        self._filled = mark[0]
        del self._parts[mark[1] :], self._long[mark[2] :]

    def add(self, arrivals: pa.Array, chunk_tokens: pa.Array) -> None:
        """Lists of int64 and of int32, one for each request; a null list has no chunks, or does not say."""
        stamps_ns, chunks = _ragged(arrivals)
        offsets = offsets_from_lengths(chunks)
        filled = np.flatnonzero(chunks)
        first_ns, last_ns = np.zeros(len(chunks), np.int64), np.zeros(len(chunks), np.int64)
        first_ns[filled] = stamps_ns[offsets[filled]]
        last_ns[filled] = stamps_ns[offsets[filled + 1] - 1]
        gap_ns = np.zeros(len(stamps_ns), np.int64)
        np.subtract(stamps_ns[1:], stamps_ns[:-1], out=gap_ns[1:])
        gap_ns[offsets[filled]] = 0
        long = np.flatnonzero((gap_ns <= LONG) | (gap_ns > np.iinfo(np.int32).max))
        if len(long):
            self._long.append((long + self._filled, gap_ns[long]))
            gap_ns[long] = LONG
        self._gaps_ns[self._filled : self._filled + len(gap_ns)] = gap_ns
        self._add_tokens(chunk_tokens, offsets)
        self._filled += len(gap_ns)
        self._parts.append((chunks, first_ns, last_ns))

    def _add_tokens(self, column: pa.Array, offsets: IntArray) -> None:
        if column.null_count == len(column):
            return
        values, lengths = _ragged(column)
        chunks = np.diff(offsets)
        said = np.where(lengths == chunks, chunks, 0)
        kept = values[positions(offsets_from_lengths(lengths)[:-1], said)]
        # Too many for the type become its largest, which is more than any chunk of a real server holds.
        kept = np.clip(kept, 0, np.iinfo(TOKEN_TYPES[-1]).max)
        most = int(kept.max()) if len(kept) else 0
        type_ = next(one for one in TOKEN_TYPES if most <= np.iinfo(one).max)
        if self._tokens is None:
            self._tokens = np.zeros(len(self._gaps_ns), type_)
        elif most > np.iinfo(self._tokens.dtype).max:
            self._tokens = self._tokens.astype(type_)
        self._tokens[self._filled + positions(offsets[:-1], said)] = kept

    def result(self) -> Arrivals:
        chunks, first_ns, last_ns = (_joined([part[i] for part in self._parts]) for i in range(3))
        return Arrivals(
            gaps_ns=self._gaps_ns[: self._filled],
            long_at=_joined([at for at, _ in self._long]),
            long_ns=_joined([ns for _, ns in self._long]),
            tokens=None if self._tokens is None else self._tokens[: self._filled],
            starts=offsets_from_lengths(chunks)[:-1],
            chunks=chunks,
            first_ns=first_ns,
            last_ns=last_ns,
        )


def offsets_from_lengths(lengths: IntArray) -> IntArray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def positions(starts: IntArray, lengths: IntArray) -> IntArray:
    """Of all elements of these runs, one run after the other: 5, 6, 2 for starts 5, 2 and lengths 2, 1."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found: IntArray = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return found


def _ragged(column: pa.Array) -> tuple[IntArray, IntArray]:
    """(flat values, lengths); a null list has length 0."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.int64, copy=False), lengths.astype(np.int64)


def _joined(parts: list[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
