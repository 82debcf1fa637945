"""A scheduler in simulated time: an engine that is never late."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from loadstair.simserver.batch import Step
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.sequence import Request, Token


class Service(Protocol):
    """What takes requests and gives tokens in simulated time: one engine, or pools of them."""

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        """Of all its engines, those first that take in requests."""
        ...

    @property
    def answering(self) -> tuple[Scheduler, ...]:
        """Those of them whose tokens are answers."""
        ...

    @property
    def next_ns(self) -> int | None:
        """When something happens next; None while nothing is under way."""
        ...

    def add(self, request: Request, now_ns: int) -> None:
        """Raises as `Scheduler.add`."""
        ...

    def abort(self, request_id: str) -> bool:
        """False if there is no such request."""
        ...

    def advance(self, now_ns: int) -> list[Token]:
        """Lets happen what is due, which may be nothing; the tokens that this gives."""
        ...


class TimedEngine:
    """One engine: a step begins when the last one ends, or with the first request after a pause."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._step: Step | None = None

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        return (self.scheduler,)

    @property
    def answering(self) -> tuple[Scheduler, ...]:
        return (self.scheduler,)

    @property
    def next_ns(self) -> int | None:
        return None if self._step is None else self._step.end_ns

    @property
    def requests(self) -> int:
        """Under way, waiting ones too."""
        return self.scheduler.waiting + self.scheduler.running

    def add(self, request: Request, now_ns: int) -> None:
        self.scheduler.add(request)
        if self._step is None:
            self._step = self.scheduler.next_step(now_ns)

    def abort(self, request_id: str) -> bool:
        return self.scheduler.abort(request_id)

    def advance(self, now_ns: int) -> list[Token]:
        step = self._step
        if step is None or step.end_ns > now_ns:
            return []
        tokens = self.scheduler.finish_step(step)
        self._step = self.scheduler.next_step(step.end_ns)
        return tokens


class DrivenService:
    """A service whose next event is always among those of a simulation."""

    def __init__(
        self,
        service: Service,
        at: Callable[[int, Callable[[], None]], None],
        give: Callable[[list[Token], int], None],
    ) -> None:
        """`at`: puts an action among the simulation's events. `give`: gets tokens and when they came."""
        self.service = service
        self._at = at
        self._give = give
        self._expected_ns: int | None = None
        """When something next happens here, as the events have it."""

    def add(self, request: Request, now_ns: int) -> None:
        """Raises as `Scheduler.add`."""
        self.service.add(request, now_ns)
        self._expect()

    def _expect(self) -> None:
        next_ns = self.service.next_ns
        if next_ns is not None and next_ns != self._expected_ns:
            self._expected_ns = next_ns
            self._at(next_ns, partial(self._happen, next_ns))

    def _happen(self, now_ns: int) -> None:
        if self._expected_ns != now_ns:
            return  # something came before it
        self._expected_ns = None
        self._give(self.service.advance(now_ns), now_ns)
        self._expect()
