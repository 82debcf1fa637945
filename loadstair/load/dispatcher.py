"""An open loop's requests in one worker: each is sent when it is due, whether or not earlier ones have ended."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NoReturn

import gevent
from gevent.event import Event

from loadstair.clock import monotonic_ns, now_ns
from loadstair.load.tag import Tag
from loadstair.plan.arrivals import Arrivals, Due, schedule
from loadstair.samples.record import Phase
from loadstair.units import NS_PER_S

STARTING_S: Final = 0.001
"""In which greenlets that were spawned begin."""

Send = Callable[[Due, Tag, int], None]
"""Runs one request to its end; gets when it was due (CLOCK_REALTIME ns)."""


class Dispatcher:
    """All workers of a step work out the same schedule; each sends every n-th request of it.

    What came due is sent, if late, under the tag that it came due under; only `kill` drops what an in-flight limit
    still holds back.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        seed: int,
        repeat: int,
        send: Send,
        on_due: Callable[[int], None],
        on_held_back: Callable[[int], None],
    ) -> None:
        """`on_due` gets the step of each request that came due, `on_held_back` of each that the limit made wait."""
        self._arrivals = arrivals
        self._seed = seed
        self._repeat = repeat
        self._send = send
        self._on_due = on_due
        self._on_held_back = on_held_back
        self._tag: Tag | None = None
        self._start_ns = 0
        self._start_monotonic_ns = 0
        self._coming: Iterator[Due] = iter(())
        self._next: Due | None = None
        self._waiting: deque[tuple[Due, Tag, int]] = deque()
        """Due, and held back by the limit."""
        self._in_flight_max: int | None = None
        self._under_way: set[gevent.Greenlet[..., None]] = set()
        self._changed = Event()
        self._running = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def waiting_hold(self, step: int) -> int:
        return sum(tag.step == step and tag.phase is Phase.HOLD for _, tag, _ in self._waiting)

    def begin_step(self, tag: Tag, *, rank: int, workers: int, start_ns: int, in_flight_max: int | None) -> None:
        """`start_ns`: when the schedule begins, the same for all workers; `in_flight_max` of this worker."""
        self._pass_due()
        self._tag = tag
        self._start_ns = start_ns
        # A wall clock that is stepped must not move what is due.
        self._start_monotonic_ns = monotonic_ns() + start_ns - now_ns()
        self._in_flight_max = in_flight_max
        whole = schedule(self._arrivals, rate=tag.load, seed=self._seed, repeat=self._repeat, step=tag.step)
        self._coming = islice(whole, rank, None, workers)
        self._next = next(self._coming)
        self._changed.set()

    def set_phase(self, phase: Phase) -> None:
        self._pass_due()
        if self._tag is not None:
            self._tag = Tag(step=self._tag.step, load=self._tag.load, phase=phase)

    def end_schedule(self) -> None:
        """Nothing more comes due; what is waiting will still be sent."""
        self._pass_due()
        self._next = None
        self._changed.set()

    def kill(self, timeout_s: float) -> None:
        """Ends the schedule and what is under way; what is waiting is never sent."""
        self.end_schedule()
        self._waiting.clear()
        gevent.sleep(STARTING_S)  # a request that has not begun could not record that it was killed
        gevent.killall(list(self._under_way), timeout=timeout_s)

    def run(self) -> NoReturn:
        """Sends what is due; in one greenlet at a time, the others stand by."""
        while self._running:
            gevent.sleep(1.0)
        self._running = True
        try:
            while True:
                self._changed.clear()
                self._pass_due()
                self._changed.wait(timeout=self._until_next_s())
        finally:
            self._running = False

    def _until_next_s(self) -> float | None:
        if self._next is None:
            return None
        return max(0.0, (self._start_monotonic_ns + self._next.offset_ns - monotonic_ns()) / NS_PER_S)

    def _pass_due(self) -> None:
        elapsed_ns = monotonic_ns() - self._start_monotonic_ns
        while self._tag is not None and self._next is not None and self._next.offset_ns <= elapsed_ns:
            self._on_due(self._tag.step)
            self._waiting.append((self._next, self._tag, self._start_ns + self._next.offset_ns))
            self._next = next(self._coming)
            self._send_waiting()
            if self._waiting:
                self._on_held_back(self._tag.step)

    def _send_waiting(self) -> None:
        while self._waiting and (self._in_flight_max is None or len(self._under_way) < self._in_flight_max):
            greenlet = gevent.Greenlet(self._run_one, *self._waiting.popleft())
            self._under_way.add(greenlet)
            greenlet.start()

    def _run_one(self, due: Due, tag: Tag, due_ns: int) -> None:
        try:
            self._send(due, tag, due_ns)
        finally:
            self._under_way.discard(gevent.getcurrent())
            self._send_waiting()
