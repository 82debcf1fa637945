"""What this process has used so far. Read when it is asked for, from the kernel alone: it costs the loop some 10 µs."""

import os
import resource
from pathlib import Path

from loadstair.clock import monotonic_ns

STATM = Path("/proc/self/statm")
"""Sizes in pages; the second is what is resident."""


def own_process() -> dict[str, int | float | None]:
    """The values of `loadstair.samples.process.WorkerProcess`, without the worker's name."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "at_ns": monotonic_ns(),
        "cpu_s": used.ru_utime + used.ru_stime,
        "memory_bytes": _resident_bytes(),
    }


def _resident_bytes() -> int | None:
    try:
        pages = STATM.read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
