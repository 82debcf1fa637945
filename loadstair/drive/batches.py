"""The workers' packed batches → one Arrow table of samples."""

import msgpack
import numpy as np
import pyarrow as pa

from loadstair.errors import LoadError
from loadstair.samples.record import SAMPLE_FIELDS
from loadstair.samples.table import SAMPLE_SCHEMA

_ARRIVALS = SAMPLE_FIELDS.index("arrivals")
_CHUNK_TOKENS = SAMPLE_FIELDS.index("chunk_tokens")


def sample_table(packed: bytes) -> pa.Table:
    """`packed` is what the controller's /records answers: a msgpack list of packed batches.

    Raises LoadError when it is anything else.
    """
    try:
        rows = [row for batch in msgpack.unpackb(packed) for row in msgpack.unpackb(batch)["records"]]
        for row in rows:
            row[_ARRIVALS] = np.frombuffer(row[_ARRIVALS], dtype="<i8")
            if row[_CHUNK_TOKENS] is not None:
                row[_CHUNK_TOKENS] = np.frombuffer(row[_CHUNK_TOKENS], dtype="<i4")
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(SAMPLE_FIELDS)
        arrays = [pa.array(list(column), type=field.type) for column, field in zip(columns, SAMPLE_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SAMPLE_SCHEMA)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException, pa.ArrowException) as error:
        raise LoadError(f"the load's records cannot be read: {error}") from error
