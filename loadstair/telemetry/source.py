"""What a source of telemetry is, and what it yields."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One value at one time, as TELEMETRY_SCHEMA has it."""

    time_ns: int
    """CLOCK_REALTIME, when the source had answered."""
    source: str
    series: str
    labels: str
    """`name="value"` pairs joined by commas; empty for none."""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    series: str
    value: float
    labels: str = ""
    part: str = ""
    """Which one it is of, where a source tells of several: the row's `source` is then `<name>/<part>`."""


class SourceError(Exception):
    """A source could not be read this time; `str()` says why, in one line."""


class Source(Protocol):
    """Read by one thread at a time. A read must end within a few seconds whatever the other side does."""

    @property
    def name(self) -> str:
        """As the column `source` has it: `tp2x2/engine0`, `tp2x2/balancer`, `generator/worker-1`, `host` …"""

    @property
    def kind(self) -> str:
        """What is read, in words."""

    def read(self) -> list[Reading]:
        """Raises SourceError. A series that is not there now is left out, never zero."""
