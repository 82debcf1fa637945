"""How many workers one machine starts."""

from typing import Literal


def worker_count(wanted: Literal["auto"] | int, *, cores: int, local_engines: int) -> int:
    """Locust worker processes; one is one core. `auto` leaves a core for the orchestrator and Locust's master together,
    and one for each engine that runs on this machine, but starts at least one worker.

    `cores` is what this process may use (CPU affinity), not what the machine has.
    """
    if isinstance(wanted, int):
        return wanted
    return max(1, cores - 1 - local_engines)
