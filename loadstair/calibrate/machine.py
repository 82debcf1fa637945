"""What a calibration depends on: where one of these differs, the ceiling may too."""

import importlib.metadata
import platform
from pathlib import Path

import psutil

from loadstair import __version__

CPUINFO = Path("/proc/cpuinfo")
MODEL_KEYS = ("model name", "Model", "cpu model", "Hardware")
"""What kernels call it on x86, ARM, MIPS and older ARM."""

LOOK_S = 0.5


def busy_share() -> float:
    """Of all cores, over the next half second."""
    return float(psutil.cpu_percent(interval=LOOK_S)) / 100


def machine(*, cores: int, cpuinfo: Path = CPUINFO) -> dict[str, str | int]:
    """The fingerprint; `cores` are those that this process may use."""
    return {
        "cpu": cpu_model(cpuinfo),
        "cores": cores,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gevent": importlib.metadata.version("gevent"),
        "loadstair": __version__,
    }


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """As the kernel names it; the architecture where it doesn't."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return next((told[key] for key in MODEL_KEYS if told.get(key)), platform.processor() or platform.machine())
