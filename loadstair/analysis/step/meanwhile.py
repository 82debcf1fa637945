"""What the telemetry saw during a window: gauges as means, counters as what they grew by."""

from dataclasses import dataclass

import numpy as np

from loadstair.analysis.step.power import GpuPower, gpu_power
from loadstair.analysis.step.throughput import Window
from loadstair.samples.readings import Telemetry
from loadstair.units import ns_from_s

COUNTER_EDGE_NS = ns_from_s(5.0)
"""How far from an end of the window the sample of a counter may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLateness:
    """How late the simulated engines were against their own plan, and how long the steps were planned, means in s."""

    lateness_s: float
    planned_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanwhile:
    """Means over a hold window; None where nothing was sampled."""

    requests_running: float | None
    """Summed over the engines, as the following one."""
    requests_waiting: float | None
    kv_usage: float | None
    """The fullest engine's mean share."""
    preemptions: float | None
    """Growth, summed over the engines."""
    generator_cpu_percent: float | None
    """The busiest worker's mean; 100 is one core."""
    host_cpu_percent: float | None
    gpu_memory_used_bytes_max: float | None
    """Summed over the topology's GPUs."""
    step_lateness: StepLateness | None
    """The latest engine's; None for engines that are no simulation."""
    gpu_power: tuple[GpuPower, ...]
    """Of every GPU that the topology's sources tell anything of."""


def in_window(telemetry: Telemetry, topology: str, window: Window) -> Meanwhile:
    def means(series: str, of: str | None = topology) -> list[float]:
        return [float(one.value.mean()) for one in telemetry.between(series, of, window.start_ns, window.end_ns)]

    memory = telemetry.between("gpu.memory_used_bytes", topology, window.start_ns, window.end_ns)
    return Meanwhile(
        requests_running=_sum(means("engine.requests.running")),
        requests_waiting=_sum(means("engine.requests.waiting")),
        kv_usage=_max(means("engine.kv.usage")),
        preemptions=_sum(list(increases(telemetry, topology, "engine.preemptions", window).values())),
        generator_cpu_percent=_max(means("generator.cpu_percent", None)),
        host_cpu_percent=_max(means("host.cpu_percent", None)),
        gpu_memory_used_bytes_max=_sum([float(one.value.max()) for one in memory]),
        step_lateness=_step_lateness(telemetry, topology, window),
        gpu_power=gpu_power(telemetry, topology, window),
    )


def increases(telemetry: Telemetry, topology: str, series: str, window: Window) -> dict[str, float]:
    """By source and labels, a counter's growth between the samples nearest to the window's ends.

    Sources without two samples near the ends, or whose counter was reset between them, are left out.
    """
    result: dict[str, float] = {}
    around = (window.start_ns - COUNTER_EDGE_NS, window.end_ns + COUNTER_EDGE_NS + 1)
    for one in telemetry.between(series, topology, *around):
        first = int(np.abs(one.time_ns - window.start_ns).argmin())
        last = int(np.abs(one.time_ns - window.end_ns).argmin())
        if first < last and one.value[last] >= one.value[first]:
            result[f"{one.source},{one.labels}"] = float(one.value[last] - one.value[first])
    return result


def _step_lateness(telemetry: Telemetry, topology: str, window: Window) -> StepLateness | None:
    names = (
        "engine.sim.step_lateness.sum",
        "engine.sim.step_lateness.count",
        "engine.sim.step.sum",
        "engine.sim.step.count",
    )
    late_sum, late_count, step_sum, step_count = (increases(telemetry, topology, name, window) for name in names)
    engines = [
        StepLateness(lateness_s=late_sum[key] / late_count[key], planned_s=step_sum[key] / step_count[key])
        for key in late_sum
        if late_count.get(key, 0) > 0 and step_count.get(key, 0) > 0 and key in step_sum
    ]
    return max(engines, key=lambda engine: engine.lateness_s, default=None)


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _max(values: list[float]) -> float | None:
    return max(values, default=None)
