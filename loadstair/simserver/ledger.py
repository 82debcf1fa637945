"""What an engine really sent, and when: the truth that measured timings are checked against.

JSON lines, one for each request, written when it ends. `write_ns` holds the first write as CLOCK_REALTIME ns since the
epoch and then differences.
"""

import json
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from loadstair.errors import StorageError

LedgerFinish = Literal["length", "stop", "abort", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    request_id: str
    received_ns: int
    """When the whole request had been read and understood."""
    input_tokens: int
    output_tokens: int
    """Generated; more than was sent if the client hung up."""
    finish: LedgerFinish
    write_ns: tuple[int, ...]
    """One for each chunk that carried tokens, taken right before it was handed to the kernel: a receive stamp of the
    same chunk is never earlier. A response that is not streamed has one for all its tokens."""


class LedgerWriter:
    """Keeps entries until `flush`, which belongs at least every second and at the end of the `with` block.

    All that goes wrong with the file is a StorageError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        try:
            self._file: IO[bytes] = path.open("ab", buffering=0)
        except OSError as error:
            raise self._storage_error(error) from error

    def write(self, entry: LedgerEntry) -> None:
        stamps = entry.write_ns
        row = {
            "request_id": entry.request_id,
            "received_ns": entry.received_ns,
            "input_tokens": entry.input_tokens,
            "output_tokens": entry.output_tokens,
            "finish": entry.finish,
            "write_ns": [*stamps[:1], *(after - before for before, after in pairwise(stamps))],
        }
        self._lines.append(json.dumps(row, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        data = memoryview("".join(self._lines).encode())
        self._lines.clear()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._storage_error(error) from error

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path}: cannot write the ledger: {error.strerror}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self.flush()


def read_ledger(path: Path) -> list[LedgerEntry]:
    """In the order the requests ended, with absolute write times.

    A last line cut short (the engine was killed) is left out. Raises ValueError for any other line that is no entry,
    and OSError if the file cannot be read.
    """
    entries: list[LedgerEntry] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            row["write_ns"] = tuple(accumulate(row["write_ns"]))
            entries.append(LedgerEntry(**row))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: line {number} is no ledger entry: {error}") from error
    return entries
