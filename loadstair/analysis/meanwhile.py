"""What the telemetry saw during a window: gauges as means, counters as what they grew by."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadstair.analysis.power import GpuPower, gpu_power
from loadstair.analysis.throughput import Window
from loadstair.samples.frame import Telemetry
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
    """`topology` chooses the engines by the prefix of their source, "<topology>/"."""
    frame = telemetry.frame
    time_ns = frame["time_ns"].to_numpy(dtype=np.int64)
    near = frame.iloc[
        np.searchsorted(time_ns, window.start_ns - COUNTER_EDGE_NS) : np.searchsorted(
            time_ns,
            window.end_ns + COUNTER_EDGE_NS,
            side="right",
        )
    ]
    own = near[near["source"].str.startswith(f"{topology}/")]
    inside = own[own["time_ns"].between(window.start_ns, window.end_ns, inclusive="left")]
    around = near[near["time_ns"].between(window.start_ns, window.end_ns, inclusive="left")]
    return Meanwhile(
        requests_running=_sum(_means(inside, "engine.requests.running")),
        requests_waiting=_sum(_means(inside, "engine.requests.waiting")),
        kv_usage=_max(_means(inside, "engine.kv.usage")),
        preemptions=_sum(list(increases(own, "engine.preemptions", window).values())),
        generator_cpu_percent=_max(_means(around, "generator.cpu_percent")),
        host_cpu_percent=_max(_means(around, "host.cpu_percent")),
        gpu_memory_used_bytes_max=_sum(_maxima(inside, "gpu.memory_used_bytes")),
        step_lateness=_step_lateness(own, window),
        gpu_power=gpu_power(own, window),
    )


def increases(frame: pd.DataFrame, series: str, window: Window) -> dict[str, float]:
    """By source and labels, a counter's growth between the samples nearest to the window's ends.

    Sources without two samples near the ends, or whose counter was reset between them, are left out.
    """
    result: dict[str, float] = {}
    for (source, labels), rows in frame[frame["series"] == series].groupby(["source", "labels"], sort=True):
        times = rows["time_ns"].to_numpy(dtype=np.int64)
        values = rows["value"].to_numpy(dtype=np.float64)
        first = int(np.abs(times - window.start_ns).argmin())
        last = int(np.abs(times - window.end_ns).argmin())
        if first < last and values[last] >= values[first]:
            result[f"{source},{labels}"] = float(values[last] - values[first])
    return result


def _step_lateness(own: pd.DataFrame, window: Window) -> StepLateness | None:
    names = (
        "engine.sim.step_lateness.sum",
        "engine.sim.step_lateness.count",
        "engine.sim.step.sum",
        "engine.sim.step.count",
    )
    late_sum, late_count, step_sum, step_count = (increases(own, name, window) for name in names)
    engines = [
        StepLateness(lateness_s=late_sum[key] / late_count[key], planned_s=step_sum[key] / step_count[key])
        for key in late_sum
        if late_count.get(key, 0) > 0 and step_count.get(key, 0) > 0 and key in step_sum
    ]
    return max(engines, key=lambda engine: engine.lateness_s, default=None)


def _means(frame: pd.DataFrame, series: str) -> list[float]:
    chosen = frame[frame["series"] == series]
    return [float(value) for value in chosen.groupby(["source", "labels"], sort=True)["value"].mean()]


def _maxima(frame: pd.DataFrame, series: str) -> list[float]:
    chosen = frame[frame["series"] == series]
    return [float(value) for value in chosen.groupby(["source", "labels"], sort=True)["value"].max()]


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _max(values: list[float]) -> float | None:
    return max(values, default=None)
