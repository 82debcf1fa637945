"""A scheduler in simulated time: an engine that is never late."""

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
