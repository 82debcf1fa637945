"""The analysis' door to the files: request rows as a data frame, their token arrivals beside it.

Lists inside a data frame would make every statistic a Python loop; a million requests of hundreds of tokens must stay
a few array operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from loadstair.samples.arrivals import Arrivals, Gathering, offsets_from_lengths
from loadstair.samples.table import SAMPLE_SCHEMA

IntArray = npt.NDArray[np.int64]

LIST_COLUMNS = ("arrivals", "chunk_tokens")
REQUEST_SCHEMA = pa.schema([field for field in SAMPLE_SCHEMA if field.name not in LIST_COLUMNS])

# Nullable on purpose: as float64 an epoch in ns is off by up to 128 ns, and None would become NaN.
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    requests: pd.DataFrame
    """One row per request, index 0 … n-1, all columns of SAMPLE_SCHEMA except the lists."""
    arrivals: Arrivals
    """Of these requests, in the order of the rows."""

    def __post_init__(self) -> None:
        if len(self.arrivals) != len(self.requests):
            raise ValueError(f"arrivals of {len(self.arrivals)} requests for {len(self.requests)} rows")

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def arrivals_ns(self) -> IntArray:
        """Every token-carrying arrival: those of request i are `arrivals_ns[offsets[i]:offsets[i + 1]]`. Made at every
        call, 8 bytes each: for few requests. What goes over all of a run takes `arrivals.pieces`."""
        return self.arrivals.times_ns()

    @property
    def offsets(self) -> IntArray:
        """Shape [n + 1]."""
        return offsets_from_lengths(self.arrivals.chunks)

    @property
    def chunk_tokens(self) -> IntArray | None:
        """Tokens in each arrival, 0 where that request does not say; None if no request of the run says."""
        return self.arrivals.all_tokens()

    @property
    def chunk_count(self) -> int:
        return int(self.arrivals.chunks.sum())

    def take(self, rows: IntArray) -> "Samples":
        """The requests at these positions, in this order, numbered anew; their arrivals are shared, not copied."""
        return Samples(requests=self.requests.iloc[rows].reset_index(drop=True), arrivals=self.arrivals.take(rows))


def samples_from_tables(tables: Sequence[pa.Table]) -> Samples:
    """All rows of these tables of SAMPLE_SCHEMA, one after the other."""
    whole = [table.select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA) for table in tables]
    batches = [batch for table in whole for batch in table.to_batches()]
    gathering = Gathering(sum(len(batch.column("arrivals").flatten()) for batch in batches))
    for batch in batches:
        gathering.add(*(batch.column(name) for name in LIST_COLUMNS))
    return samples_of([table.drop_columns(list(LIST_COLUMNS)) for table in whole], gathering)


def samples_of(tables: Sequence[pa.Table], gathering: Gathering) -> Samples:
    """The rows of these tables of REQUEST_SCHEMA, one after the other; their arrivals were gathered in that order."""
    table = pa.concat_tables(tables or [REQUEST_SCHEMA.empty_table()])
    return Samples(requests=table.to_pandas(types_mapper=_NULLABLE.get), arrivals=gathering.result())
