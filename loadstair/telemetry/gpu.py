"""NVIDIA GPUs of this machine, through NVML. A machine without one has no such sources."""

from collections.abc import Callable
from dataclasses import dataclass

import pynvml

from loadstair.telemetry.source import Reading, SourceError

MILLIWATTS_PER_WATT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU by NVML's index.

    gpu.utilization: share of the time in which at least one kernel ran, 0 to 1: near 1 whenever it is busy at all.
    gpu.memory_used_bytes: by every process, the driver's own included, of
    gpu.memory_total_bytes. gpu.power_watts: as the board reports it.
    """

    name: str
    index: int
    kind: str = "GPU"

    def read(self) -> list[Reading]:
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self.index)
        except pynvml.NVMLError as error:
            raise SourceError(f"GPU {self.index}: {error}") from error
        asked: dict[str, Callable[[], float]] = {
            "gpu.utilization": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu.memory_used_bytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used,
            "gpu.memory_total_bytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            "gpu.power_watts": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / MILLIWATTS_PER_WATT,
        }
        readings = []
        for series, value in asked.items():
            try:
                readings.append(Reading(series=series, value=float(value())))
            except pynvml.NVMLError:
                continue  # not every board answers every question; under MIG there is no utilization
        if not readings:
            raise SourceError(f"GPU {self.index}: NVML answered none of {', '.join(asked)}")
        return readings


def local_gpus(topology: str) -> list[Gpu]:
    """Empty where NVML does not initialise: no driver, no GPU."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return []
    return [Gpu(name=f"{topology}/gpu{index}", index=index) for index in range(count)]
