"""What `loadstair calibrate` found of one machine: its ceiling as a load generator, and how true its times are there.

Kept as calibration.json; every run on the same machine copies it into its run.json. All times are ns.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from loadstair.units import NS_PER_MS

CALIBRATION_SCHEMA = 1
TTFT_ERROR_NS_MAX = NS_PER_MS
ITL_ERROR_NS_MAX = NS_PER_MS // 5
"""The p99 that a level must not exceed to hold."""


class GroundTruth(StrEnum):
    """Who sent the tokens and kept the ledger that the times are held against."""

    NATIVE = "native"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingError:
    """Of the absolute differences |measured - true|, over all tokens or requests of a level's hold."""

    p50_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One metric of a level as the client measured it, against the server's ledger."""

    error: TimingError
    p99_ns: int
    """As a report would tell it."""
    p99_true_ns: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationLevel:
    """One worker process under one number of users. Rates are those of the hold window."""

    users: int
    requests: int
    """Dispatched in the hold and ended well; the timing is theirs."""
    failed: int
    chunks_per_s: float
    """Token-carrying chunks that arrived; the ground truth sends one token a chunk."""
    requests_per_s: float
    """Completed."""
    offered_chunks_per_s: float | None
    """What so many users get if none of them ever waits for the client; None where no request ended well."""
    bunched_late_share: float
    """Of the chunks: those that lost their stamp to a late read of the worker."""
    stamp: TimingError | None
    """Kernel stamp of a chunk minus the server's write of it; None where no request ended well, as the following."""
    way: TimingError | None
    """From a request's send to the moment that the server had read it: part of its true TTFT."""
    ttft: Timing | None
    """The truth runs from the send, too."""
    itl: Timing | None
    server_late_ns_p99: int | None
    """Writes of the server against its own schedule; None where it has none."""
    held: bool
    why: str
    """What did not hold; empty where all did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    started: str
    """UTC, ISO 8601."""
    machine: dict[str, str | int]
    """The fingerprint: a calibration is good for a machine with the same one only."""
    ground_truth: GroundTruth
    quick: bool
    ttft_ms: float
    """The schedule of the ground truth's answers, with `gap_ms`; of a simulated engine about that."""
    gap_ms: float
    levels: tuple[CalibrationLevel, ...]
    """In the order of their users; one gap is one token for each user."""
    request_levels: tuple[CalibrationLevel, ...]
    """With answers of two tokens; of a simulated engine 30."""
    chunks_per_s: float
    """The ceiling of one worker process: the highest rate at which every criterion held."""
    requests_per_s: float
    """The same for completed requests, from `request_levels`."""
    lower_bound: str
    """Why the true ceiling may be higher; empty where it is bracketed."""

    def __post_init__(self) -> None:
        if not any(level.held for level in self.levels):
            raise ValueError("a calibration in which no level held has no ceiling")
        if not all(math.isfinite(rate) and rate >= 0 for rate in (self.chunks_per_s, self.requests_per_s)):
            raise ValueError("a rate must be a number from 0 on")
        if not isinstance(self.machine.get("cores"), int):
            raise ValueError("machine.cores must be a whole number")

    @property
    def ceiling(self) -> CalibrationLevel:
        """The level that gave `chunks_per_s`."""
        return max((level for level in self.levels if level.held), key=lambda level: level.chunks_per_s)

    @property
    def cores(self) -> int:
        return int(self.machine["cores"])
