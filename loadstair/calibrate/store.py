"""Where a machine's calibration is kept, and whether it is this machine's.

$XDG_STATE_HOME/loadstair/ (by default ~/.local/state/loadstair/): calibration.json, its plot calibration.html, a lock.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadstair.errors import StorageError, UsageError
from loadstair.samples.calibration import CALIBRATION_SCHEMA, Calibration
from loadstair.samples.run_folder import replacing
from loadstair.samples.versioned import DamagedError, OtherSchemaError, of_schema
from loadstair.xdg import base_folder

STATE_VARIABLE = "XDG_STATE_HOME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a run may use. At most one of the two is there."""

    calibration: Calibration | None
    warning: str | None
    """One line: a calibration is kept but cannot be used, and why."""


class Store:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "calibration.json"
        self.page_path = folder / "calibration.html"

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> "Store":
        return cls(base_folder(environment, STATE_VARIABLE, ".local/state") / "loadstair")

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """The folder, made if need be, for one calibration at a time. For before minutes are spent.

        Raises UsageError if nothing can be kept there, or another calibration is running.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "calibration.lock").open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{self.folder}: a calibration cannot be kept there: {error.strerror}; "
                f"set {STATE_VARIABLE} to a folder that can be written"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{self.folder}: another `loadstair calibrate` is running; wait for it, they disturb each other"
                ) from error
            yield

    def write(self, calibration: Calibration, page: str) -> None:
        """Both files whole, or as they were before. Raises StorageError."""
        self._write(self.page_path, page)
        values = {"schema": CALIBRATION_SCHEMA} | dataclasses.asdict(calibration)
        self._write(self.path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def _write(self, path: Path, text: str) -> None:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def read(self) -> Calibration | None:
        """None where none was ever kept. Raises StorageError for a file that this version cannot read."""
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{self.path}: damaged: it is no JSON") from error
        try:
            return of_schema(raw, CALIBRATION_SCHEMA, Calibration)
        except OtherSchemaError as error:
            raise StorageError(f"{self.path}: {error}") from error
        except DamagedError as error:
            raise StorageError(f"{self.path}: damaged: {error}") from error


def kept_for(machine: Mapping[str, str | int], store: Store) -> Kept:
    """The calibration of exactly this machine. Whatever is wrong with the file is no reason not to measure."""
    again = "`loadstair calibrate` makes a new one"
    try:
        calibration = store.read()
    except StorageError as error:
        return Kept(calibration=None, warning=f"the calibration is not used: {error}; {again}")
    if calibration is None or calibration.machine == machine:
        return Kept(calibration=calibration, warning=None)
    return Kept(
        calibration=None,
        warning=f"the calibration is not used, it was made with another {_difference(calibration, machine)}; {again}",
    )


def _difference(calibration: Calibration, machine: Mapping[str, str | int]) -> str:
    """`cores (8, now 2) and kernel (6.1, now 6.18)`."""
    before = calibration.machine
    names = [name for name in {**before, **machine} if before.get(name) != machine.get(name)]
    return " and ".join(f"{name} ({before.get(name, 'none')}, now {machine.get(name, 'none')})" for name in names)
