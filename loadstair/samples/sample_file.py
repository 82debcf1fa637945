"""Parquet files as the analysis takes them in: a file of requests in parts, so that its stamps never lie in memory
whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from loadstair.errors import UsageError
from loadstair.samples.arrivals import Gathering
from loadstair.samples.frame import LIST_COLUMNS, REQUEST_SCHEMA
from loadstair.samples.table import SAMPLE_SCHEMA

ARRIVALS, _ = LIST_COLUMNS
LIST_SCHEMA = pa.schema([SAMPLE_SCHEMA.field(name) for name in LIST_COLUMNS])
CHUNKS_AT_ONCE = 1 << 19
"""Read of a file's lists at a time, on average."""


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Raises UsageError where the file is damaged or lacks a column that must be there."""
    with _reading(path), pq.ParquetFile(path) as file:
        wanted = [name for name in schema.names if name in file.schema_arrow.names]
        return _as_told(path, file.read(columns=wanted), schema)


def chunks_in(path: Path) -> int:
    """Arrivals in the file, or a few more: a request without any counts as one. Raises UsageError, as `read_table`."""
    with _reading(path), pq.ParquetFile(path) as file:
        return _chunks_in(file.metadata)


def _chunks_in(metadata: pq.FileMetaData) -> int:
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    columns = [group.column(column) for group in groups for column in range(group.num_columns)]
    return sum(column.num_values for column in columns if column.path_in_schema.startswith(f"{ARRIVALS}."))


def read_requests(path: Path, gathering: Gathering) -> pa.Table:
    """The rows without their lists, which go into `gathering`; that is left as it was where this raises UsageError."""
    mark = gathering.mark()
    try:
        with _reading(path), pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            requests = [name for name in names if name not in LIST_COLUMNS]
            lists = [name for name in LIST_COLUMNS if name in names]
            table = _as_told(path, file.read(columns=requests), REQUEST_SCHEMA)
            each = _chunks_in(file.metadata) / max(1, table.num_rows)
            for batch in file.iter_batches(max(1, int(CHUNKS_AT_ONCE / max(1.0, each))), columns=lists):
                part = _as_told(path, pa.Table.from_batches([batch]), LIST_SCHEMA).combine_chunks()
                gathering.add(*(column.combine_chunks() for column in part.itercolumns()))
    except UsageError:
        gathering.back_to(mark)
        raise
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _as_told(path: Path, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With the columns of the schema; those that an older file lacks are absent in every row, if they may be."""
    missing = [field for field in schema if field.name not in table.schema.names]
    lacking = sorted(field.name for field in missing if not field.nullable)
    if lacking:
        raise UsageError(f"{path}: lacks the columns {', '.join(lacking)}")
    for field in missing:  # written before there was such a column
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)
