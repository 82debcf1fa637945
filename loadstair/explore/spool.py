"""Where the master keeps the raw records of a test: in a file, never in memory."""

import contextlib
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
        """Raises UsageError if `path` cannot be written. What it held is lost. Where a temporary file cannot be
        written, `stopped` says so: nobody asked for it."""
        self._bytes_max = None if path else bytes_max
        self.stopped: str | None = None
        """Why no more is kept; None while everything is."""
        self._size = 0
        self._epoch = 0
        """One more with each `begin`."""
        self._file: BinaryIO
        try:  # without a buffer: what a full disk refused would stay in it, and fail again with the next seek or close
            self._file = path.open("w+b", buffering=0) if path else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--records: {path or 'a temporary file'}: {error.strerror or error}") from error
        if not self._write(header()) and path:
            self._file.close()
            raise UsageError(f"--records: {path}: {self.stopped}")

    def begin(self) -> None:
        """Empties it. Whoever is reading sees an end."""
        self._epoch += 1
        self._size = 0
        self.stopped = None
        try:
            os.ftruncate(self._file.fileno(), 0)
        except OSError as error:
            self._stop(error.strerror or str(error))
            return
        self._write(header())

    def append(self, lines: str) -> None:
        """`lines`: whole ones."""
        if self.stopped is None:
            self._write(lines)

    def _write(self, lines: str) -> bool:
        """False, with `stopped` set, if they are not kept."""
        data = lines.encode()
        if self._bytes_max is not None and self._size + len(data) > self._bytes_max:
            self._stop(f"no more than {self._bytes_max} bytes of them are kept: name a file of your own with --records")
            return False
        try:
            self._put(data)
        except OSError as error:
            self._stop(error.strerror or str(error))
            return False
        return True

    def _put(self, data: bytes) -> None:
        """All of it or, with OSError, nothing: of what a full disk still took, half a line would stay."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file.fileno(), data[written:], self._size + written)
        except OSError:
            with contextlib.suppress(OSError):  # it is the first one that says why
                os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += written

    def _stop(self, why: str) -> None:
        self.stopped = f"the raw records end here: {why}"
        logger.warning("%s", self.stopped)

    def csv(self) -> Iterator[str]:
        """What is there by now, in pieces of whole lines."""
        size, epoch = self._size, self._epoch
        descriptor = os.dup(self._file.fileno())
        try:
            position, rest = 0, b""
            while position < size and epoch == self._epoch:
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
        try:
            self._file.close()
        except OSError as error:  # some network file systems tell only here that they lost something
            self._stop(error.strerror or str(error))
