"""What a request is marked with when it is dispatched."""

from dataclasses import dataclass

from loadstair.samples.record import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """Which step and phase a request belongs to: fixed when it is dispatched."""

    step: int
    load: float
    phase: Phase
