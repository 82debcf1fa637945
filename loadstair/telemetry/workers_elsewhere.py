"""CPU and memory of the load's workers on other hosts, as they tell of themselves."""

from collections.abc import Callable, Iterator, Sequence

from loadstair.errors import LoadError
from loadstair.samples.process import WorkerProcess
from loadstair.telemetry.source import Reading, SourceError
from loadstair.units import NS_PER_S

AskWorkers = Callable[[], Sequence[WorkerProcess]]
"""Asks all workers at once; empty before the visit's first step. Raises LoadError."""


class WorkersElsewhere:
    """Of each worker the same series as `loadstair.telemetry.host` has of one on this machine: generator.cpu_percent
    since the last read, by the worker's own clock, and generator.memory_bytes."""

    kind = "workers on other hosts"
    name = "generator"

    def __init__(self, ask: AskWorkers) -> None:
        self._ask = ask
        self._before: dict[str, WorkerProcess] = {}

    def read(self) -> list[Reading]:
        try:
            told = self._ask()
        except LoadError as error:
            raise SourceError(str(error)) from error
        readings = [reading for one in told for reading in self._readings(one)]
        self._before = {one.worker: one for one in told}
        return readings

    def _readings(self, now: WorkerProcess) -> Iterator[Reading]:
        before = self._before.get(now.worker)
        if before is not None and now.at_ns > before.at_ns:
            percent = 100.0 * (now.cpu_s - before.cpu_s) * NS_PER_S / (now.at_ns - before.at_ns)
            yield Reading(series="generator.cpu_percent", value=percent, part=now.worker)
        if now.memory_bytes is not None:
            yield Reading(series="generator.memory_bytes", value=float(now.memory_bytes), part=now.worker)
