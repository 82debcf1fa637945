"""This machine as a load generator: what one worker process carries, and how true its times are there.

The load is a run's own: Locust's master and a worker, driven as a visit drives them. Two staircases: answers of some
length, for token chunks per second and the timing; very short ones, for requests per second.
"""

from collections.abc import Sequence
from pathlib import Path

from loadstair.calibrate.ground import available
from loadstair.calibrate.machine import busy_share
from loadstair.calibrate.staircase import Effort, Told, climbed
from loadstair.clock import utc_now
from loadstair.errors import LoadError
from loadstair.samples.calibration import Calibration, CalibrationLevel, GroundTruth

BUSY_SHARE_MAX = 0.1
"""Of all cores; what others take is missing in the ceiling."""
APART_CORES = 3
"""The worker, the ground truth, and everybody else."""


def calibrate(effort: Effort, *, machine: dict[str, str | int], log_dir: Path, told: Told) -> Calibration:
    """`log_dir` gets ledgers and logs, which nobody needs afterwards.

    Raises LoadError where no level holds or a process fails, and TopologyError where the ground truth does.
    """
    started = utc_now().isoformat(timespec="seconds")
    told.phase("looking for a C compiler")
    kind = available()
    told.phase("looking how busy the machine is")
    busy = busy_share()
    levels = climbed(effort.tokens, kind, number=0, log_dir=log_dir, told=told)
    _some_held(levels)
    request_levels = climbed(effort.requests, kind, number=1, log_dir=log_dir, told=told)
    _some_held(request_levels)
    return Calibration(
        started=started,
        machine=machine,
        ground_truth=kind,
        quick=effort.quick,
        ttft_ms=effort.tokens.pace.ttft_ms,
        gap_ms=effort.tokens.pace.gap_ms,
        levels=tuple(sorted(levels, key=lambda level: level.users)),
        request_levels=tuple(sorted(request_levels, key=lambda level: level.users)),
        chunks_per_s=max(level.chunks_per_s for level in levels if level.held),
        requests_per_s=max(level.requests_per_s for level in request_levels if level.held),
        lower_bound=lower_bound(levels, request_levels, kind=kind, busy=busy, cores=int(machine["cores"])),
    )


def _some_held(levels: Sequence[CalibrationLevel]) -> None:
    if not any(level.held for level in levels):
        last = levels[-1]
        raise LoadError(f"no level held, down to {last.users} users ({last.why}): is the machine busy?")


def lower_bound(
    levels: Sequence[CalibrationLevel],
    request_levels: Sequence[CalibrationLevel],
    *,
    kind: GroundTruth,
    busy: float,
    cores: int,
) -> str:
    """Why the true ceilings may be higher; empty where nothing says so. `busy`: the share of all cores that others used
    when it began."""
    reasons = []
    if busy > BUSY_SHARE_MAX:
        reasons.append(f"other processes used {busy:.0%} of the machine when it began")
    if _highest_held(levels):
        reasons.append("the highest level held")
    if _highest_held(request_levels):
        reasons.append("the highest level of requests held")
    if cores < APART_CORES:
        reasons.append(f"the worker shared {cores} core{'s' if cores > 1 else ''} with the ground truth")
    if kind is GroundTruth.SIMULATED:
        most = max(level.chunks_per_s for level in levels)
        reasons.append(
            "without a C compiler (cc, gcc or clang) the ground truth was the simulated engine, which sent up to "
            f"{most:,.0f} chunks/s"
        )
    return "; ".join(reasons)


def _highest_held(levels: Sequence[CalibrationLevel]) -> bool:
    """One that failed at first may have held when it was tried again."""
    highest = max(level.users for level in levels)
    return any(level.held for level in levels if level.users == highest)
