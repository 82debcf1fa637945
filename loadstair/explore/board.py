"""What all workers have told so far, in one place: the master's (or the only process's) view of the running test."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from loadstair.clock import monotonic_ns, now_ns
from loadstair.explore.figures import Part, numbers
from loadstair.explore.numbers import Limits, Numbers, Tick
from loadstair.explore.spool import Spool
from loadstair.explore.tally import Tally
from loadstair.units import NS_PER_S, ns_from_s, s_from_ns

logger = logging.getLogger(__name__)

RECENT_S: Final = 10.0
STALE_S: Final = 5.0
"""A worker that was silent for so long no longer counts for what happens now."""
STATES_MAX: Final = 13
"""Of one worker, a second apart: as many as the recent span needs."""
TICKS_MAX: Final = 3600
NO_LIMITS: Final = Limits(ttft_ms=None, tpot_ms=None, e2e_ms=None)


@dataclass(slots=True)
class State:
    as_of_ns: int
    """By the worker's own clock."""
    tally: Tally


@dataclass(slots=True)
class Told:
    """By one worker, in the current epoch."""

    states: deque[State] = field(default_factory=lambda: deque(maxlen=STATES_MAX))
    number: int = 0
    in_flight: int = 0
    heard_ns: int = 0
    """By our clock."""
    final: bool = False
    rows_made: int = 0
    rows_kept: int = 0
    rows_up_to: int = 0
    """Rows before this one have come, or never will."""


class Board:
    """The numbers of the test that runs or ran last. Everything starts anew with a test and with Locust's reset.

    A worker that is lost stays in the totals with what it said last.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        users: Callable[[], int],
        now_ns: Callable[[], int] = now_ns,
        monotonic_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        """`users`: how many there are at this moment."""
        self._spool = spool
        self._users = users
        self._now_ns = now_ns
        self._monotonic_ns = monotonic_ns
        self._limits = NO_LIMITS
        self._test: str | None = None
        self.epoch = 0
        self._running = False
        self._began_at_ns: int | None = None
        """CLOCK_REALTIME."""
        self._began_ns = 0
        """Our monotonic clock, as `_heard_ns` is."""
        self._heard_ns = 0
        self._told: dict[str, Told] = {}
        self._ticks: list[Tick] = []
        self.refusal: str | None = None
        """Why the last test did not start, in one line; None if it did."""

    def begin(self, test: str, limits: Limits) -> None:
        self._test, self._limits = test, limits
        self.epoch = -1
        self._running = True
        self.refusal = None
        self.reset()

    def reset(self) -> None:
        """Begins a new epoch: what is told of the old one no longer counts."""
        self.epoch += 1
        self._told = {}
        self._ticks = []
        self._began_at_ns = self._now_ns()
        self._began_ns = self._heard_ns = self._monotonic_ns()
        self._spool.begin()

    def end(self) -> None:
        """To be called when every worker has reported for the last time, or never will."""
        if not self._running:
            return
        self.tick()
        self._running = False
        missing = self.records_missing
        if missing:
            logger.warning("%d raw records never came from their workers", missing)

    def hear_report(self, worker: str, report: Mapping[str, Any]) -> None:
        """Raises ValueError or KeyError if it is not one."""
        told = self._teller(worker, report)
        if told is None or report["number"] <= told.number:
            return
        told.number = report["number"]
        told.states.append(State(report["as_of_ns"], Tally.unpacked(report["tally"])))
        told.in_flight = report["in_flight"]
        told.rows_made = report["rows"]
        told.final = report["final"]
        told.heard_ns = self._heard_ns = self._monotonic_ns()

    def hear_rows(self, worker: str, rows: Mapping[str, Any]) -> None:
        """Raises KeyError if these are none."""
        told = self._teller(worker, rows)
        if told is None:
            return
        # Sent again, with newer ones behind, where the worker could not know that they had come.
        known = max(0, told.rows_up_to - rows["before"])
        new = rows["count"] - known
        if new <= 0:
            return
        told.rows_up_to = rows["before"] + rows["count"]
        told.rows_kept += new
        self._spool.append(rows["csv"].split("\n", known)[-1])

    def _teller(self, worker: str, message: Mapping[str, Any]) -> Told | None:
        """None for a message of another test or epoch."""
        if message["test"] != self._test or message["epoch"] != self.epoch:
            return None
        return self._told.setdefault(worker, Told())

    def is_final(self, worker: str) -> bool:
        """Whether it has reported for the last time."""
        told = self._told.get(worker)
        return told is not None and told.final

    @property
    def workers(self) -> list[str]:
        """That have reported."""
        return list(self._told)

    @property
    def records_missing(self) -> int:
        """Raw records that were made and did not come."""
        return sum(max(0, told.rows_made - told.rows_kept) for told in self._told.values())

    def total_tally(self) -> Tally:
        """Of all workers, since the test's start or the last reset."""
        whole = Tally()
        for told in self._told.values():
            if told.states:
                whole.merge(told.states[-1].tally)
        return whole

    def total(self) -> Numbers:
        """Since the test's start, or since the last reset."""
        return numbers([Part(self.total_tally(), s_from_ns(self._heard_ns - self._began_ns))], self._limits)

    def recent(self) -> Numbers:
        """Over the last 10 s, or less where the test is younger. Empty when no test runs."""
        parts = [self._recent_part(told) for told in self._told.values() if self._running and not self._stale(told)]
        return numbers([part for part in parts if part is not None], self._limits)

    def _recent_part(self, told: Told) -> Part | None:
        """What a worker told over the recent span, by its own clock: no matter how its messages travelled."""
        if len(told.states) < 2:
            return None
        newest = told.states[-1]
        begin_ns = newest.as_of_ns - ns_from_s(RECENT_S) - NS_PER_S // 2
        oldest = next(state for state in told.states if state.as_of_ns >= begin_ns)
        return Part(newest.tally.since(oldest.tally), s_from_ns(newest.as_of_ns - oldest.as_of_ns))

    def _stale(self, told: Told) -> bool:
        return self._monotonic_ns() - told.heard_ns > ns_from_s(STALE_S)

    def tick(self) -> None:
        """Adds a point to the charts. To be called once a second while a test runs."""
        if not self._running:
            return
        in_flight = sum(told.in_flight for told in self._told.values() if not self._stale(told))
        self._ticks.append(
            Tick(time_s=s_from_ns(self._now_ns()), users=self._users(), in_flight=in_flight, numbers=self.recent())
        )
        if len(self._ticks) > TICKS_MAX:
            half = TICKS_MAX // 2
            self._ticks[:half] = self._ticks[:half:2]

    def ticks(self, after_s: float) -> list[Tick]:
        """Those with `time_s` > `after_s`, in the order of time; of a long test the older ones are thinned."""
        return [tick for tick in self._ticks if tick.time_s > after_s]

    @property
    def limits(self) -> Limits:
        """Of the test that runs or ran last."""
        return self._limits

    def records_csv(self) -> Iterator[str]:
        """The raw records so far, a header first; in pieces of whole lines."""
        return self._spool.csv()

    @property
    def records_stopped(self) -> str | None:
        """Why no more raw records are kept, in one line; None while all are."""
        return self._spool.stopped

    @property
    def test_started_s(self) -> float | None:
        """Epoch seconds; a reset counts as a start. None before the first test."""
        return None if self._began_at_ns is None else s_from_ns(self._began_at_ns)

    @property
    def test_running(self) -> bool:
        return self._running

    def close(self) -> None:
        self._spool.close()
