"""What each GPU drew during a window, from samples of its power."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadstair.analysis.latency import FloatArray
from loadstair.analysis.throughput import SLICES, Window
from loadstair.units import NS_PER_S

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


def gpu_power(own: pd.DataFrame, window: Window) -> tuple[GpuPower, ...]:
    """`own`: telemetry of one topology, the window and a few seconds around it, in the order of time."""
    rows = own[own["series"].str.startswith("gpu.")]
    found = []
    for (source, labels), of_one in rows.groupby(["source", "labels"], sort=True):
        busy = of_one[of_one["series"] == "gpu.utilization"]
        inside = busy[busy["time_ns"].between(window.start_ns, window.end_ns, inclusive="left")]
        name = f"{str(source).rpartition('/')[2]} {labels}".strip()
        found.append(
            GpuPower(
                name=name,
                utilization=float(inside["value"].mean()) if len(inside) else None,
                watts=_watts(of_one[of_one["series"] == POWER], window),
            )
        )
    return tuple(found)


def _watts(rows: pd.DataFrame, window: Window) -> FloatArray | None:
    """Trapezoids between the samples, cut at the slices' edges."""
    if len(rows) < 2:
        return None
    times_s = (rows["time_ns"].to_numpy(dtype=np.int64) - window.start_ns) / NS_PER_S
    watts = rows["value"].to_numpy(dtype=np.float64)
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
