"""What each GPU drew during a window, from samples of its power."""

from dataclasses import dataclass

import numpy as np

from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.throughput import SLICES, Window
from loadstair.samples.readings import Readings, Telemetry
from loadstair.units import NS_PER_S, ns_from_s

POWER = "gpu.power_watts"
GAP_S_MAX = 5.0
"""Between two samples, and between the window's ends and the nearest sample: what a GPU drew meanwhile is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPower:
    name: str
    """As its source calls it: `gpu0`, `page0 gpu=3`."""
    utilization: float | None
    """Mean share of the window in which it was busy."""
    watts: FloatArray | None
    """Mean of each of SLICES equal slices of the window, interpolated between the samples; None where the board does
    not tell its power, or not often enough."""


def gpu_power(telemetry: Telemetry, topology: str, window: Window) -> tuple[GpuPower, ...]:
    edge_ns = ns_from_s(GAP_S_MAX)
    boards: dict[tuple[str, str], dict[str, Readings]] = {}
    for series in telemetry.by_series:
        if series.startswith("gpu."):
            for told in telemetry.between(series, topology, window.start_ns - edge_ns, window.end_ns + edge_ns + 1):
                boards.setdefault((told.source, told.labels), {})[series] = told
    return tuple(
        GpuPower(
            name=f"{source.rpartition('/')[2]} {labels}".strip(),
            utilization=_utilization(told.get("gpu.utilization"), window),
            watts=_watts(told.get(POWER), window),
        )
        for (source, labels), told in sorted(boards.items())
    )


def _utilization(told: Readings | None, window: Window) -> float | None:
    inside = None if told is None else told.between(window.start_ns, window.end_ns).value
    return None if inside is None or not len(inside) else float(inside.mean())


def _watts(told: Readings | None, window: Window) -> FloatArray | None:
    """Trapezoids between the samples, cut at the slices' edges."""
    if told is None or len(told.time_ns) < 2:
        return None
    times_s = (told.time_ns - window.start_ns) / NS_PER_S
    watts = told.value
    to_nearest_s = max(np.abs(times_s).min(), np.abs(times_s - window.duration_s).min())
    if max(to_nearest_s, np.diff(times_s).max(initial=0.0)) > GAP_S_MAX:
        return None
    edges_s = np.linspace(0.0, window.duration_s, SLICES + 1)
    inside_s = times_s[(times_s > 0) & (times_s < window.duration_s)]
    corners_s = np.union1d(inside_s, edges_s)
    level = np.interp(corners_s, times_s, watts)
    joules = np.concatenate([[0.0], np.cumsum((level[1:] + level[:-1]) / 2 * np.diff(corners_s))])
    per_slice = np.diff(np.interp(edges_s, corners_s, joules))
    return np.asarray(per_slice * SLICES / window.duration_s, dtype=np.float64)
