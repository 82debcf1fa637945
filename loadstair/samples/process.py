"""What a process of the load has used so far, as it tells of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    worker: str
    at_ns: int
    """On the monotonic clock of the worker's host."""
    cpu_s: float
    """Of all its threads, user and system, since the process began."""
    memory_bytes: int | None
    """Resident; None where the system does not tell."""
