"""Where the master keeps the raw records of a test: in a file, never in memory."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from loadstair.errors import UsageError
from loadstair.explore.rows import header

logger = logging.getLogger(__name__)

BYTES_MAX: Final = 1024**3
PIECE_BYTES: Final = 256 * 1024


class Spool:
    """A temporary file that is gone with the process and holds a GiB at most; or the user's own, which is kept."""

    def __init__(self, path: Path | None = None, *, bytes_max: int = BYTES_MAX) -> None:
        """Raises UsageError if `path` cannot be written. What it held is lost."""
        self._path = path
        self._bytes_max = None if path else bytes_max
        self._file: BinaryIO
        try:
            self._file = path.open("w+b") if path else tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        except OSError as error:
            raise UsageError(f"--records: {path or tempfile.gettempdir()}: {error.strerror or error}") from error
        self.stopped: str | None = None
        """Why no more is kept; None while everything is."""
        self._size = 0
        self._write(header())

    def begin(self) -> None:
        """Empties it. Whoever is reading sees an end."""
        self._file.seek(0)
        self._file.truncate()
        self._size = 0
        self.stopped = None
        self._write(header())

    def append(self, lines: str) -> None:
        """`lines`: whole ones."""
        if self.stopped is None:
            self._write(lines)

    def _write(self, lines: str) -> None:
        data = lines.encode()
        if self._bytes_max is not None and self._size + len(data) > self._bytes_max:
            self._stop(f"no more than {self._bytes_max} bytes of them are kept: name a file of your own with --records")
            return
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            self._stop(f"they cannot be written: {error.strerror or error}")
            return
        self._size += len(data)

    def _stop(self, why: str) -> None:
        self.stopped = f"the raw records end here: {why}"
        logger.warning("%s", self.stopped)

    def csv(self) -> Iterator[str]:
        """What is there by now, in pieces of whole lines."""
        size = self._size
        descriptor = os.dup(self._file.fileno())
        try:
            position, rest = 0, b""
            while position < size:
                data = os.pread(descriptor, min(PIECE_BYTES, size - position), position)
                if not data:
                    return
                position += len(data)
                lines, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    yield (lines + newline).decode()
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._file.close()
