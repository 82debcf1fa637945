"""Keeps `run.json` true while a run goes on: written anew after every step."""

import dataclasses
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from loadstair import __version__
from loadstair.clock import utc_now
from loadstair.plan.model import Plan, RemoteWorkers
from loadstair.samples.calibration import Calibration
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Ending, PredictedStep, RunRecord, VisitRecord

VERSIONED_PACKAGES = ("locust", "openai", "gevent", "geventhttpclient", "httpx2", "numpy", "pandas", "pyarrow")


class Journal:
    """The run's record so far; every change is on disk when the method returns. Raises StorageError."""

    def __init__(self, folder: RunFolder, record: RunRecord) -> None:
        self._folder = folder
        self.record = record
        self._write()

    def fingerprint(self, topology: str, fingerprint: dict[str, Any]) -> None:
        self._change(topologies=self.record.topologies | {topology: fingerprint})

    def visit(self, visit: VisitRecord) -> None:
        """Adds a visit, or replaces what was known of it."""
        others = tuple(other for other in self.record.visits if other.visit != visit.visit)
        self._change(visits=(*others, visit))

    def broke_off(self, topology: str, repeat: int, ending: Ending, message: str) -> None:
        """How this repeat's visit ended early, as far as there is anything of it; of those before it, that is known."""
        self._change(
            visits=tuple(
                dataclasses.replace(visit, broke_off=ending, broke_off_message=message)
                if (visit.topology, visit.repeat) == (topology, repeat) and visit.broke_off is None
                else visit
                for visit in self.record.visits
            )
        )

    def warn(self, messages: Sequence[str]) -> None:
        self._change(warnings=(*self.record.warnings, *messages))

    def foretold(self, steps: Sequence[PredictedStep]) -> None:
        self._change(forecast=tuple(steps))

    def end(self, ending: Ending, message: str | None = None) -> None:
        self._change(ending=ending, ending_message=message)

    def _change(self, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, **changes)
        self._write()

    def _write(self) -> None:
        self._folder.write_run(self.record)


def new_record(
    plan: Plan, *, plan_dir: Path, command: Sequence[str], quick: bool, calibration: Calibration | None
) -> RunRecord:
    return RunRecord(
        name=plan.name,
        started=utc_now().isoformat(timespec="seconds"),
        loadstair_version=__version__,
        command=shlex.join(command),
        quick=quick,
        seed=plan.seed,
        versions={"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in VERSIONED_PACKAGES},
        host={
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpus": usable_cores(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        topologies={},
        calibration=None if isinstance(plan.workers, RemoteWorkers) else calibration,  # of another machine than sends
        plan_dir=str(plan_dir.resolve()),
    )


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may run on: its CPU affinity, or a container's quota where that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
