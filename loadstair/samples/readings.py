"""Telemetry as the analysis reads it: each series of each source as two arrays, in the order of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NAMES = ("series", "source", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What one source told of one series under one set of labels; both arrays of shape [readings], `time_ns` rising."""

    source: str
    labels: str
    """ "k=v,k=v", "" for none."""
    time_ns: IntArray
    value: FloatArray

    def between(self, start_ns: int, end_ns: int) -> "Readings":
        """From the start on, the end not included."""
        first, last = np.searchsorted(self.time_ns, (start_ns, end_ns))
        return replace(self, time_ns=self.time_ns[first:last], value=self.value[first:last])


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    by_series: Mapping[str, tuple[Readings, ...]]
    """In the order of source and labels; none is empty."""

    def of(self, series: str, topology: str | None = None) -> tuple[Readings, ...]:
        """By everyone, or by a topology's own sources alone: "<topology>/…"."""
        told = self.by_series.get(series, ())
        return told if topology is None else tuple(one for one in told if one.source.startswith(f"{topology}/"))

    def between(self, series: str, topology: str | None, start_ns: int, end_ns: int) -> tuple[Readings, ...]:
        """As `of`, of that time; who told nothing then is left out."""
        cut = (one.between(start_ns, end_ns) for one in self.of(series, topology))
        return tuple(one for one in cut if len(one.time_ns))


def telemetry_from_tables(tables: Sequence[pa.Table]) -> Telemetry:
    """All rows of these tables of TELEMETRY_SCHEMA; of none, no series."""
    rows = sum(table.num_rows for table in tables)
    if not rows:
        return Telemetry(by_series={})
    whole = pa.concat_tables(tables)
    names, codes = zip(*(_coded(whole.column(name)) for name in NAMES), strict=True)
    time_ns = whole.column("time_ns").to_numpy()
    value = whole.column("value").to_numpy()
    order = np.lexsort((time_ns, *reversed(codes)))
    keys = np.stack([code[order] for code in codes])
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    by_series: dict[str, list[Readings]] = {}
    for first, last in zip(starts, [*starts[1:], rows], strict=True):
        series, source, labels = (known[code] for known, code in zip(names, keys[:, first], strict=True))
        at = order[first:last]
        by_series.setdefault(series, []).append(
            Readings(source=source, labels=labels, time_ns=time_ns[at], value=value[at])
        )
    return Telemetry(by_series={series: tuple(told) for series, told in by_series.items()})


def _coded(column: pa.ChunkedArray) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct names, sorted, and for each row the position of its own."""
    coded = column.combine_chunks().dictionary_encode()
    known: list[str] = coded.dictionary.to_pylist()
    order = sorted(range(len(known)), key=known.__getitem__)
    rank = np.empty(len(known), np.int64)
    rank[order] = np.arange(len(known))
    return [known[place] for place in order], rank[coded.indices.to_numpy()]
