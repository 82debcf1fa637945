"""The folder of a run: the only thing that measuring hands to thinking.

Every file is written whole under another name, synced, then renamed, and the rename is synced too: a run that dies,
with its machine or without, leaves no half file, and what was said to be written is there.
"""

import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from loadstair.errors import StorageError, UsageError
from loadstair.samples.arrivals import Gathering
from loadstair.samples.frame import Samples, samples_of
from loadstair.samples.runrecord import RUN_SCHEMA, RunRecord
from loadstair.samples.sample_file import chunks_in, read_requests, read_table
from loadstair.samples.table import ARRIVALS_PATH, SAMPLE_SCHEMA, TELEMETRY_SCHEMA
from loadstair.samples.versioned import DamagedError, OtherSchemaError, of_schema

BOOK_FIELDS: Final = ("request_id", "step", "worker")


class RunFolder:
    """Paths and files of one run. Nothing is cached: what is read is what is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_path = path / "plan.yaml"
        self.run_path = path / "run.json"
        self.samples_path = path / "samples"
        self.telemetry_path = path / "telemetry.parquet"
        self.summary_path = path / "summary.json"
        self.results_path = path / "results.json"
        self.report_path = path / "report.html"
        self.junit_path = path / "junit.xml"
        self.log_path = path / "log"

    @classmethod
    def create(cls, parent: Path, name: str, started: datetime) -> "RunFolder":
        """A new folder `<name>-<time>`; raises UsageError (exit 2) where it cannot be made or written."""
        stamp = started.strftime("%Y%m%d-%H%M%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = cls(_new_folder(parent, f"{name}-{stamp}"))
            folder.samples_path.mkdir()
            folder.log_path.mkdir()
            sync_folder(folder.path)
            sync_folder(parent)
        except OSError as error:
            raise UsageError(f"--out {parent}: a run folder cannot be made there: {error.strerror}") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run; raises UsageError where there is none."""
        folder = cls(path)
        for needed in (folder.plan_path, folder.run_path):
            if not needed.is_file():
                raise UsageError(f"{path}: not a run folder: it has no {needed.name}")
        return folder

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """For one writer at a time, until the block or the process ends. Raises UsageError where another has it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(f"{self.path}: not a run folder: {error.strerror}") from error
        try:
            _lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)

    def remove_partial_files(self) -> None:
        """What a killed writer was writing. For who has the folder reserved. Raises StorageError."""
        for path in (*self.path.glob(".*.partial"), *self.samples_path.glob(".*.partial")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"{path}: cannot be removed: {error.strerror}") from error

    def write_text(self, path: Path, text: str) -> None:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_json(self, path: Path, value: Any) -> None:
        self.write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_run(self, run: RunRecord) -> None:
        self.write_json(self.run_path, {"schema": RUN_SCHEMA} | dataclasses.asdict(run))

    def write_samples(self, visit: int, part: int, table: pa.Table) -> None:
        """One file per step of a visit (`part` counts on for what came after the last step)."""
        path = self.samples_path / f"visit{visit:03d}-part{part:03d}.parquet"
        self._write_table(path, table, deltas=ARRIVALS_PATH)

    def write_telemetry(self, table: pa.Table) -> None:
        self._write_table(self.telemetry_path, table)

    def _write_table(self, path: Path, table: pa.Table, *, deltas: str | None = None) -> None:
        """`deltas`: a column kept as differences, which for a million stamps takes two thirds of the space."""
        plain = {} if deltas is None else {deltas: "DELTA_BINARY_PACKED"}
        others = [name for name in table.schema.names if deltas is None or not deltas.startswith(f"{name}.")]
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", use_dictionary=others, column_encoding=plain)

    def read_run(self) -> RunRecord:
        """Raises UsageError where the file is not a run of a schema that this version reads."""
        try:
            return of_schema(self.read_json(self.run_path), RUN_SCHEMA, RunRecord)
        except OtherSchemaError as error:
            raise UsageError(f"{self.run_path}: {error}") from error
        except DamagedError as error:
            raise UsageError(f"{self.run_path}: damaged: {error}") from error

    def read_samples(self, visit: int | None = None) -> tuple[Samples, list[str]]:
        """All rows in the order of the run, or one visit's, and a line for each file that cannot be read: a damaged
        file costs its own step only."""
        chunks, tables, damaged = {}, [], []
        for path in self._parts(visit):
            try:
                chunks[path] = chunks_in(path)
            except UsageError as error:
                damaged.append(str(error))
        gathering = Gathering(sum(chunks.values()))
        for path in chunks:
            try:
                tables.append(read_requests(path, gathering))
            except UsageError as error:
                damaged.append(str(error))
        return samples_of(tables, gathering), sorted(damaged)

    def read_books(self, visit: int) -> pa.Table:
        """Of all records of a visit `request_id`, `step` and `worker`; what cannot be read is left out."""
        fields = pa.schema([SAMPLE_SCHEMA.field(name) for name in BOOK_FIELDS])
        tables = [fields.empty_table()]
        for path in self._parts(visit):
            with suppress(UsageError):
                tables.append(read_table(path, fields))
        return pa.concat_tables(tables)

    def next_part(self, visit: int) -> int:
        """The number for `write_samples` that comes after all that are there."""
        return 1 + max((int(path.stem.rpartition("part")[2]) for path in self._parts(visit)), default=-1)

    def _parts(self, visit: int | None) -> list[Path]:
        """Of one visit, or all, in the order of the run."""
        return sorted(self.samples_path.glob("*.parquet" if visit is None else f"visit{visit:03d}-*.parquet"))

    def read_telemetry(self) -> pa.Table:
        """Empty where none was written."""
        if not self.telemetry_path.is_file():
            return TELEMETRY_SCHEMA.empty_table()
        return read_table(self.telemetry_path, TELEMETRY_SCHEMA)

    def read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"{path}: no such file; `analyze` makes it") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read: {error}") from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"{path}: another process is still measuring into it; wait for its end") from error


def _new_folder(parent: Path, stem: str) -> Path:
    """Two runs in one second get different folders."""
    for name in _candidates(stem):
        try:
            (parent / name).mkdir()
        except FileExistsError:
            continue
        return parent / name
    raise AssertionError("candidates never end")


def _candidates(stem: str) -> Iterator[str]:
    yield stem
    count = 2
    while True:
        yield f"{stem}-{count}"
        count += 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well, and is on the disk then; raises
    StorageError (exit 3)."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StorageError(f"{path}: cannot be written: {reason}; what was written before is kept") from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """A new name is on the disk when its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
