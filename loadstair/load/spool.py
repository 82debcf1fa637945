"""What a worker has recorded and the master's side does not have on its disk yet: in a file beside the worker.

If the way to the master breaks, or the master dies, these records are still there, for `loadstair.recovery`. The file
exists only while it holds something. It is not synced: it outlives the process, not the machine.
"""

import logging
import os
from pathlib import Path
from typing import Final

import msgpack

from loadstair.load.config import LoadConfig
from loadstair.locust_process import SPOOL_VARIABLE

logger = logging.getLogger(__name__)

NONCE_DIGITS: Final = 8


class Spool:
    """A header (`nonce`, `visit`), then for each batch its `number`, the worker's `counters` until then, and the
    `batch`; all msgpack, one after the other."""

    def __init__(self, config: LoadConfig, folder: Path | None) -> None:
        """`folder`: None where nothing is to be kept."""
        name = f"spool-{config.visit:03d}-{config.nonce[:NONCE_DIGITS]}-{os.getpid()}.msgpack"
        self.path = None if folder is None else folder / name
        self.records = 0
        """In the file."""
        self._header = {"nonce": config.nonce, "visit": config.visit}
        self._last = 0

    @classmethod
    def of_environment(cls, config: LoadConfig) -> "Spool":
        folder = os.environ.get(SPOOL_VARIABLE)
        return cls(config, Path(folder) if folder else None)

    def append(self, number: int, counters: dict[int, dict[str, int]], batch: bytes, records: int) -> None:
        """Where it cannot be written (a full disk), nothing more is kept: the load goes on."""
        if self.path is None:
            return
        header = b"" if self.records else msgpack.packb(self._header)
        try:
            _append(self.path, header + msgpack.packb({"number": number, "counters": counters, "batch": batch}))
        except OSError as error:
            logger.warning("%s: no more records are kept here: %s", self.path, error.strerror or error)
            self.path = None
            return
        self._last = number
        self.records += records

    def forget(self, number: int) -> None:
        """The records of all batches up to this one are on the orchestrator's disk. The file goes when it holds no
        other; until then it may hold more than is needed."""
        if self.path is not None and self.records and number >= self._last:
            self.path.unlink(missing_ok=True)
            self.records = 0


def _append(path: Path, data: bytes) -> None:
    """All of it: a broken end would hide what is appended later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    finally:
        os.close(descriptor)
