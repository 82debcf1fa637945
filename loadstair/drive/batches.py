"""The workers' packed batches → one Arrow table of samples."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa

from loadstair.errors import LoadError
from loadstair.samples.record import SAMPLE_FIELDS
from loadstair.samples.table import SAMPLE_SCHEMA


def sample_table(packed: bytes) -> pa.Table:
    """`packed` is what the controller's /records answers: a msgpack list of packed batches.

    Raises LoadError when it is anything else.
    """
    try:
        return table_of_rows([row for batch in msgpack.unpackb(packed) for row in rows_of(batch)])
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise LoadError(f"the load's records cannot be read: {error}") from error


def rows_of(batch: bytes) -> list[list[Any]]:
    """Of one packed batch. Raises what msgpack raises, TypeError and KeyError."""
    rows: list[list[Any]] = msgpack.unpackb(batch)["records"]
    return rows


def table_of_rows(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Raises LoadError where they are not records."""
    try:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(SAMPLE_FIELDS)
        arrays = [_array(column, field) for column, field in zip(columns, SAMPLE_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SAMPLE_SCHEMA)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise LoadError(f"the load's records cannot be read: {error}") from error


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """A list column's values are the bytes of a little-endian array each, or None."""
    if not pa.types.is_list(field.type):
        return pa.array(list(values), type=field.type)
    items = np.dtype(field.type.value_type.to_pandas_dtype()).newbyteorder("<")
    lengths = [len(value or b"") // items.itemsize for value in values]
    offsets = [*accumulate(lengths, initial=0)]
    flat = pa.array(np.frombuffer(b"".join(value or b"" for value in values), dtype=items), type=field.type.value_type)
    absent = pa.array([value is None for value in values], type=pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), flat, type=field.type, mask=absent)
