"""What a process has counted since a test began. Adds up: over workers, and over time."""

from dataclasses import dataclass, field
from typing import Any, Final

from loadstair.explore.numbers import Limits
from loadstair.samples.histogram import LogHistogram
from loadstair.samples.latency import e2e_ns, itl_ns, tokens_arrived, tpot_ns, ttft_ns
from loadstair.samples.record import Outcome, RequestSample
from loadstair.units import NS_PER_MS

METRICS: Final = ("ttft", "itl", "tpot", "e2e")
COUNTS: Final = ("ok", "failed", "killed", "good", "tokens")


@dataclass(slots=True, kw_only=True)
class Tally:
    """Latencies are those of ok requests alone. The law: tallies merged are the tally of all their records."""

    ttft: LogHistogram = field(default_factory=LogHistogram)
    itl: LogHistogram = field(default_factory=LogHistogram)
    """Every gap of every ok request."""
    tpot: LogHistogram = field(default_factory=LogHistogram)
    e2e: LogHistogram = field(default_factory=LogHistogram)
    ok: int = 0
    failed: int = 0
    killed: int = 0
    good: int = 0
    """Ok requests within the limits; all of them where there are no limits."""
    tokens: int = 0
    """Output tokens that arrived, whatever became of their request."""

    def add(self, record: RequestSample, limits: Limits) -> None:
        self.tokens += tokens_arrived(record)
        match record.outcome:
            case Outcome.OK:
                self.ok += 1
            case Outcome.KILLED:
                self.killed += 1
                return
            case _:
                self.failed += 1
                return
        ttft, tpot, e2e = ttft_ns(record), tpot_ns(record), e2e_ns(record)
        self.good += _within(ttft, tpot, e2e, limits)
        self.itl.record(itl_ns(record))
        for histogram, value in ((self.ttft, ttft), (self.tpot, tpot), (self.e2e, e2e)):
            if value is not None:
                histogram.record([round(value)])

    def merge(self, other: "Tally") -> None:
        for name in METRICS:
            getattr(self, name).merge(getattr(other, name))
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def since(self, earlier: "Tally") -> "Tally":
        """What came after `earlier`, an older state of this same tally."""
        later = Tally()
        for name in METRICS:
            setattr(later, name, getattr(self, name).since(getattr(earlier, name)))
        for name in COUNTS:
            setattr(later, name, getattr(self, name) - getattr(earlier, name))
        return later

    def packed(self) -> dict[str, Any]:
        """As it travels to the master: about a kilobyte or two."""
        packed: dict[str, Any] = {name: getattr(self, name).to_bytes() for name in METRICS}
        return packed | {name: getattr(self, name) for name in COUNTS}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Tally":
        """Raises ValueError or KeyError."""
        tally = cls()
        for name in METRICS:
            setattr(tally, name, LogHistogram.from_bytes(packed[name]))
        for name in COUNTS:
            setattr(tally, name, int(packed[name]))
        return tally


def _within(ttft_ns: int | None, tpot_ns: float | None, e2e_ns: int | None, limits: Limits) -> bool:
    """A request without a first token fails a TTFT limit; one with a single token has no TPOT to fail."""
    if limits.ttft_ms is not None and (ttft_ns is None or ttft_ns > limits.ttft_ms * NS_PER_MS):
        return False
    if limits.tpot_ms is not None and tpot_ns is not None and tpot_ns > limits.tpot_ms * NS_PER_MS:
        return False
    return limits.e2e_ms is None or (e2e_ns is not None and e2e_ns <= limits.e2e_ms * NS_PER_MS)
