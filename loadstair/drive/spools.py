"""What workers recorded and could not hand over: their spools, as `loadstair.load.spool` writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pyarrow as pa

from loadstair.drive.batches import rows_of, table_of_rows
from loadstair.errors import LoadError, UsageError

PATTERN = "spool-*.msgpack"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolContent:
    """One worker's."""

    path: Path
    visit: int
    nonce: str
    worker: str
    """As in its records."""
    table: pa.Table
    """Records, some of which may have been handed over as well."""
    counters: Mapping[int, Mapping[str, int]]
    """By step, when the newest of these records was made."""


def spools_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN))


def read_spool(path: Path) -> SpoolContent | None:
    """Without an end that a killed worker did not get to write; None where that leaves no record.

    Raises UsageError where the file is no spool.
    """
    try:
        with path.open("rb") as file:
            header, *entries = list(msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=0)) or [None]
        if not entries:
            return None
        batches = [entry["batch"] for entry in entries]
        return SpoolContent(
            path=path,
            visit=int(header["visit"]),
            nonce=str(header["nonce"]),
            worker=str(msgpack.unpackb(batches[-1])["worker"]),
            table=table_of_rows([row for batch in batches for row in rows_of(batch)]),
            counters={int(step): dict(books) for step, books in entries[-1]["counters"].items()},
        )
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException, LoadError) as error:
        raise UsageError(f"{path}: no spool of a Loadstair worker, or damaged") from error
