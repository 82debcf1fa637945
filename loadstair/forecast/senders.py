"""Who sends, and when: a closed loop's users, or an open loop's schedule; as the load's workers do it."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from loadstair.forecast.books import Books, Sent, Tag, Wanted
from loadstair.forecast.simulated_time import SimulatedTime
from loadstair.plan.arrivals import Arrivals, Due, schedule
from loadstair.plan.staircase import user_begins_s
from loadstair.units import ns_from_s

Dispatch = Callable[[Wanted], None]
"""Sends it now."""


class Sender(Protocol):
    @property
    def users(self) -> int: ...

    @property
    def started_users(self) -> int:
        """That dispatched in the current step."""

    @property
    def waiting(self) -> int:
        """Due, and held back."""

    def waiting_in_hold(self, tag: Tag, /) -> int: ...

    def begin_step(self, tag: Tag, users: int, growth_s: float, /) -> None: ...

    def set_tag(self, tag: Tag) -> None: ...

    def ended(self, sent: Sent, /) -> None: ...

    def end(self) -> None:
        """Nothing more is begun."""


class ClosedLoop:
    """Each user sends its next request when the last one has ended. New users of a step begin at seeded moments of its
    growth; surplus ones stop after their current request."""

    def __init__(self, time: SimulatedTime, dispatch: Dispatch, *, seed: int, turnaround_ns: int) -> None:
        self.users = 0
        self._time = time
        self._dispatch = dispatch
        self._seed = seed
        self._turnaround_ns = turnaround_ns
        self._busy: set[int] = set()
        self._dispatched: set[int] = set()
        self._tag: Tag | None = None
        self._next_index = 0

    @property
    def started_users(self) -> int:
        return len(self._dispatched)

    @property
    def waiting(self) -> int:
        return 0

    def waiting_in_hold(self, _tag: Tag) -> int:
        return 0

    def begin_step(self, tag: Tag, users: int, growth_s: float) -> None:
        self._tag, self.users = tag, users
        self._dispatched, self._next_index = set(), 0
        for ordinal in range(users):
            if ordinal not in self._busy:
                self._busy.add(ordinal)
                begins_s = user_begins_s(growth_s, seed=self._seed, step=tag.step, rank=0, ordinal=ordinal)
                self._send_at(self._time.now_ns() + ns_from_s(begins_s), ordinal)

    def set_tag(self, tag: Tag) -> None:
        self._tag = tag

    def end(self) -> None:
        self.users = 0

    def ended(self, sent: Sent) -> None:
        assert sent.wanted.ordinal is not None
        self._send_at(self._time.now_ns() + self._turnaround_ns, sent.wanted.ordinal)

    def _send_at(self, time_ns: int, ordinal: int) -> None:
        self._time.at(time_ns, partial(self._send, ordinal))

    def _send(self, ordinal: int) -> None:
        if ordinal >= self.users:
            self._busy.discard(ordinal)
            return
        assert self._tag is not None
        self._dispatched.add(ordinal)
        index, self._next_index = self._next_index, self._next_index + 1
        self._dispatch(Wanted(tag=self._tag, index=index, ordinal=ordinal))


class OpenLoop:
    """What is due is sent, whether or not earlier requests have ended; `in_flight_max` can hold it back."""

    def __init__(
        self,
        time: SimulatedTime,
        dispatch: Dispatch,
        books: Books,
        arrivals: Arrivals,
        *,
        seed: int,
        repeat: int,
        in_flight_max: int | None,
    ) -> None:
        self.users = self.started_users = 0
        self._time = time
        self._dispatch = dispatch
        self._books = books
        self._arrivals = arrivals
        self._seed = seed
        self._repeat = repeat
        self._in_flight_max = in_flight_max
        self._tag: Tag | None = None
        self._start_ns = 0
        self._coming: Iterator[Due] = iter(())
        self._held: deque[Wanted] = deque()

    @property
    def waiting(self) -> int:
        return len(self._held)

    def waiting_in_hold(self, tag: Tag) -> int:
        return sum(held.tag == tag for held in self._held)

    def begin_step(self, tag: Tag, _users: int, _growth_s: float) -> None:
        self._tag, self._start_ns = tag, self._time.now_ns()
        self._coming = schedule(self._arrivals, rate=tag.load, seed=self._seed, repeat=self._repeat, step=tag.step)
        self._await_next(self._coming)

    def set_tag(self, tag: Tag) -> None:
        self._tag = tag

    def end(self) -> None:
        self._coming = iter(())

    def ended(self, _sent: Sent) -> None:
        self._send_held()

    def _await_next(self, coming: Iterator[Due]) -> None:
        due = next(coming)
        self._time.at(self._start_ns + due.offset_ns, partial(self._due, coming, due))

    def _due(self, coming: Iterator[Due], due: Due) -> None:
        if coming is not self._coming:
            return  # of a step that is over
        assert self._tag is not None
        self._books.scheduled(self._tag.step)
        wanted = Wanted(
            tag=self._tag,
            index=due.place,
            due_ns=self._time.now_ns(),
            input_tokens=due.input_tokens,
            output_tokens=due.output_tokens,
        )
        self._held.append(wanted)
        self._send_held()
        if self._held:
            self._books.held_back(self._tag.step)
        self._await_next(coming)

    def _send_held(self) -> None:
        limit = self._in_flight_max
        while self._held and (limit is None or len(self._books.under_way) < limit):
            self._dispatch(self._held.popleft())
