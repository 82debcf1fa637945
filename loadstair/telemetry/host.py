"""CPU and memory of this machine and of single processes, through psutil.

Percentages of one core over the time since the last read, so a process with two busy threads has 200; the host's is a
percentage of all its cores. The first read has no interval yet and yields nothing.
"""

from dataclasses import dataclass

import psutil

from loadstair.clock import monotonic_ns
from loadstair.telemetry.source import Reading, SourceError
from loadstair.units import NS_PER_S


def _family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants: an engine's workers, nginx's workers. Raises SourceError if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error as error:
        raise SourceError(f"process {pid}: {error}") from error


class ProcessCpu:
    """One process and all its descendants."""

    kind = "process"

    def __init__(self, name: str, pid: int, *, series: str) -> None:
        self.name = name
        self._pid = pid
        self._series = series
        self._before: dict[tuple[int, float], float] | None = None
        self._before_ns = 0

    def read(self) -> list[Reading]:
        at_ns = monotonic_ns()
        after: dict[tuple[int, float], float] = {}
        for process in _family(self._pid):
            try:
                times = process.cpu_times()
                # The start time tells a pid that was given anew.
                after[(process.pid, process.create_time())] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
            except psutil.Error as error:
                raise SourceError(f"process {process.pid}: {error}") from error
        before, self._before = self._before, after
        before_ns, self._before_ns = self._before_ns, at_ns
        if before is None or at_ns <= before_ns:
            return []
        used_s = sum(seconds - before.get(key, 0.0) for key, seconds in after.items())
        return [Reading(series=self._series, value=100.0 * used_s * NS_PER_S / (at_ns - before_ns))]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Resident, of one process and all its descendants.

    Pages that they share count once for each, so the sum is more than they occupy; its growth is what a leak shows in.
    """

    name: str
    pid: int
    series: str
    kind: str = "process memory"

    def read(self) -> list[Reading]:
        resident = 0
        for process in _family(self.pid):
            try:
                resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            except psutil.Error as error:
                raise SourceError(f"process {process.pid}: {error}") from error
        return [Reading(series=self.series, value=float(resident))]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """host.memory_available_bytes: what processes can still get without swapping, as the kernel estimates it."""

    name: str = "host"
    kind: str = "host memory"

    def read(self) -> list[Reading]:
        return [Reading(series="host.memory_available_bytes", value=float(psutil.virtual_memory().available))]


class HostCpu:
    kind = "host"
    name = "host"

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def read(self) -> list[Reading]:
        times = psutil.cpu_times()
        # Linux counts guest time within user time already.
        counted = [value for field, value in times._asdict().items() if not field.startswith("guest")]
        after = (sum(counted), times.idle + getattr(times, "iowait", 0.0))
        before, self._before = self._before, after
        if before is None or after[0] <= before[0]:
            return []
        elapsed, idle = after[0] - before[0], after[1] - before[1]
        return [Reading(series="host.cpu_percent", value=100.0 * (1.0 - idle / elapsed))]
