"""The analysis' door to the files: request rows as a data frame, their token arrivals as flat arrays.

Lists inside a data frame would make every statistic a Python loop; a million requests of a hundred tokens must stay
a few array operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from loadstair.samples.table import SAMPLE_SCHEMA

IntArray = npt.NDArray[np.int64]

LIST_COLUMNS = ("arrivals", "chunk_tokens")
TELEMETRY_COLUMNS = ("time_ns", "source", "series", "labels", "value")

# Nullable on purpose: as float64 an epoch in ns is off by up to 128 ns, and None would become NaN.
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    requests: pd.DataFrame
    """One row per request, index 0 … n-1, all columns of SAMPLE_SCHEMA except the lists."""
    arrivals_ns: IntArray
    """Every token-carrying arrival: those of request i are `arrivals_ns[offsets[i]:offsets[i + 1]]`."""
    offsets: IntArray
    """Shape [n + 1]."""
    chunk_tokens: IntArray | None
    """Tokens in each arrival, 0 where that request does not say; None if no request says."""

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.requests) + 1:
            raise ValueError(f"{len(self.requests)} requests need {len(self.requests) + 1} offsets")
        if self.offsets[-1] != len(self.arrivals_ns):
            raise ValueError(f"offsets end at {self.offsets[-1]}, arrivals at {len(self.arrivals_ns)}")
        if self.chunk_tokens is not None and len(self.chunk_tokens) != len(self.arrivals_ns):
            raise ValueError(f"{len(self.chunk_tokens)} chunk token counts for {len(self.arrivals_ns)} arrivals")

    def __len__(self) -> int:
        return len(self.requests)

    def take(self, rows: IntArray) -> "Samples":
        """The requests at these positions, in this order, numbered anew."""
        flat = flat_positions(self.offsets, rows)
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return Samples(
            requests=self.requests.iloc[rows].reset_index(drop=True),
            arrivals_ns=self.arrivals_ns[flat],
            offsets=offsets_from_lengths(lengths),
            chunk_tokens=None if self.chunk_tokens is None else self.chunk_tokens[flat],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Long form: `time_ns`, `source`, `series`, `labels` ("k=v,k=v", "" for none), `value`; sorted by time."""

    frame: pd.DataFrame


def offsets_from_lengths(lengths: IntArray) -> IntArray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def flat_positions(offsets: IntArray, rows: IntArray) -> IntArray:
    """Positions in the flat array of all elements of these rows, row after row."""
    lengths = offsets[rows + 1] - offsets[rows]
    total = int(lengths.sum())
    starts_in_result = np.cumsum(lengths) - lengths
    positions: IntArray = np.arange(total, dtype=np.int64) + np.repeat(offsets[rows] - starts_in_result, lengths)
    return positions


def samples_from_tables(tables: Sequence[pa.Table]) -> Samples:
    """All rows of these tables of SAMPLE_SCHEMA, one after the other."""
    table = pa.concat_tables([t.select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA) for t in tables] or [_no_rows()])
    flat, offsets = _ragged(table.column("arrivals"))
    return Samples(
        requests=table.drop_columns(list(LIST_COLUMNS)).to_pandas(types_mapper=_NULLABLE.get),
        arrivals_ns=flat,
        offsets=offsets,
        chunk_tokens=_chunk_tokens(table.column("chunk_tokens"), offsets),
    )


def telemetry_from_tables(tables: Sequence[pa.Table]) -> Telemetry:
    """All rows of these tables, in the order of time; no table gives an empty frame with the same columns."""
    if not tables:
        return Telemetry(
            frame=pd.DataFrame(
                {
                    "time_ns": pd.Series([], dtype="int64"),
                    "source": pd.Series([], dtype="str"),
                    "series": pd.Series([], dtype="str"),
                    "labels": pd.Series([], dtype="str"),
                    "value": pd.Series([], dtype="float64"),
                },
            ),
        )
    frame = pa.concat_tables([table.select(list(TELEMETRY_COLUMNS)) for table in tables]).to_pandas()
    return Telemetry(frame=frame.sort_values("time_ns", kind="stable", ignore_index=True))


def _no_rows() -> pa.Table:
    return SAMPLE_SCHEMA.empty_table()


def _ragged(column: pa.ChunkedArray) -> tuple[IntArray, IntArray]:
    """(flat values, offsets); a null list has length 0."""
    lengths = column.combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.int64), offsets_from_lengths(lengths.astype(np.int64))


def _chunk_tokens(column: pa.ChunkedArray, arrival_offsets: IntArray) -> IntArray | None:
    if column.null_count == len(column):
        return None
    values, offsets = _ragged(column)
    known = np.diff(offsets) == np.diff(arrival_offsets)
    rows = np.flatnonzero(known)
    result = np.zeros(arrival_offsets[-1], np.int64)
    result[flat_positions(arrival_offsets, rows)] = values[flat_positions(offsets, rows)]
    return result
