"""What can be told of a load while it goes on, for whoever looks at a terminal."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from loadstair.clock import Deadline, monotonic_ns
from loadstair.drive.driven import DrivenLoad
from loadstair.errors import LoadError
from loadstair.samples.look import HoldLatencies
from loadstair.units import s_from_ns

LOOK_S: Final = 1.0
"""Each look asks every worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    tokens_per_s: float | None
    """Between this look and the one before it; None at the first."""
    latencies: HoldLatencies


class Watch:
    """Looks once a second, however often it is asked."""

    def __init__(self) -> None:
        self._next = Deadline.after_s(0.0)
        self._before: tuple[int, int] | None = None
        """When the last look was (ns), and the tokens then."""
        self._seen: Seen | None = None

    def look(self, session: DrivenLoad) -> Seen | None:
        if self._next.passed():
            with suppress(LoadError):  # that the line stands still is nothing to end a run for
                self._seen = self._look(session)
            self._next = Deadline.after_s(LOOK_S)
        return self._seen

    def _look(self, session: DrivenLoad) -> Seen:
        status, now_ns = session.status(), monotonic_ns()
        before, self._before = self._before, (now_ns, status.tokens)
        rate = None if before is None else (status.tokens - before[1]) / s_from_ns(now_ns - before[0])
        return Seen(tokens_per_s=rate, latencies=status.latencies)


def nobody_looks(_session: DrivenLoad) -> Seen | None:
    """In place of `Watch.look`."""
    return None


def in_words(seen: Seen) -> str:
    """To follow a phase's name; empty while nothing is known."""
    latencies = seen.latencies
    parts = [] if seen.tokens_per_s is None else [f"{seen.tokens_per_s:,.0f} tok/s"]
    for name, p50, p99 in (
        ("TTFT", latencies.ttft_ms_p50, latencies.ttft_ms_p99),
        ("ITL", latencies.itl_ms_p50, latencies.itl_ms_p99),
    ):
        if p50 is not None and p99 is not None:
            parts.append(f"{name} p50/p99 {p50:.3g}/{p99:.3g} ms")
    return "".join(f" · {part}" for part in parts)
