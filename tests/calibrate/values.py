"""Levels and calibrations with numbers that are easy to follow."""

from loadstair.samples.calibration import Calibration, CalibrationLevel, GroundTruth, Timing, TimingError
from loadstair.units import NS_PER_MS

MACHINE: dict[str, str | int] = {
    "cpu": "a CPU",
    "cores": 8,
    "kernel": "Linux 6.1",
    "python": "3.11.7",
    "gevent": "26.9.0",
    "loadstair": "0.1.0",
}


def timing(p99_ms: float) -> Timing:
    error = TimingError(
        p50_ns=round(p99_ms / 2 * NS_PER_MS), p99_ns=round(p99_ms * NS_PER_MS), max_ns=round(p99_ms * 3 * NS_PER_MS)
    )
    return Timing(error=error, p99_ns=50_100_000, p99_true_ns=50_000_000, n=1000)


def level(
    users: int, *, held: bool = True, achieved: float = 1.0, requests_per_s: float | None = None
) -> CalibrationLevel:
    """50 chunks/s are offered to every user."""
    offered = users * 50.0
    return CalibrationLevel(
        users=users,
        requests=users * 5,
        failed=0,
        chunks_per_s=offered * achieved,
        requests_per_s=users if requests_per_s is None else requests_per_s,
        offered_chunks_per_s=offered,
        bunched_late_share=0.0 if held else 0.05,
        stamp=TimingError(p50_ns=4000, p99_ns=20_000, max_ns=90_000),
        way=TimingError(p50_ns=40_000, p99_ns=60_000, max_ns=400_000),
        ttft=timing(0.08 if held else 20.0),
        itl=timing(0.01 if held else 20.0),
        server_late_ns_p99=100_000,
        held=held,
        why="" if held else "late reads merged 5.0% of the tokens",
    )


def calibration(**changes: object) -> Calibration:
    """Eight cores; 512 users hold, 1024 don't."""
    values: dict[str, object] = {
        "started": "2026-11-21T14:10:57+00:00",
        "machine": MACHINE,
        "ground_truth": GroundTruth.NATIVE,
        "quick": False,
        "ttft_ms": 50.0,
        "gap_ms": 20.0,
        "levels": (level(16), level(512), level(1024, held=False, achieved=0.82)),
        "request_levels": (level(4, requests_per_s=1500), level(16, requests_per_s=2000)),
        "chunks_per_s": 25_600.0,  # 512 × 50
        "requests_per_s": 2000.0,
        "lower_bound": "",
        **changes,
    }
    return Calibration(**values)  # type: ignore[arg-type]
