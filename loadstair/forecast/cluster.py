"""Engines behind a balancer, in simulated time: each does what the served engine does, step after step."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from loadstair.forecast.balancer import Picker
from loadstair.forecast.delays import Delays
from loadstair.forecast.simulated_time import SimulatedTime
from loadstair.simserver.scheduler import FinishReason, Overloaded, Request, SchedulerConfig, Token
from loadstair.simserver.timed import DrivenService, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An engine does not take the request."""

    reason: str
    status: int = 400


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """A request on its way. Stamps are the client's."""

    prompt_tokens: int
    max_tokens: int
    sent_ns: int
    on_end: Callable[[], None] | None = None
    """Called when the client has its last token, or was refused."""
    stop_after: int | None = None
    prefix_tokens: int = 0
    """Of the prompt: those that it shares with every other request that has a prefix."""
    place: int | None = None
    """That the balancer has chosen for it; None before."""
    upstream: str | None = None
    """The engine there; None before, and where there is more than one."""
    token_ns: "array[int]" = field(default_factory=lambda: array("q"))
    """One stamp for each token so far."""
    refused: Refused | None = None
    finish: FinishReason | None = None
    cut: bool = False
    """Given up by the client."""
    id: str = ""


class Cluster:
    """`context_tokens_max`: of prompt and answer together, beyond which an engine refuses a request."""

    def __init__(
        self,
        services: Sequence[Service],
        picker: Picker | None,
        time: SimulatedTime,
        delays: Delays,
        *,
        context_tokens_max: int | None = None,
    ) -> None:
        """`services`: single engines, or pools, each at a place of its own. `picker`: the balancer's; None sends
        everything to the first place."""
        self.schedulers = tuple(scheduler for service in services for scheduler in service.schedulers)
        self.answering = tuple(scheduler for service in services for scheduler in service.answering)
        self.tokens = 0
        self.first_tokens = 0
        self.ttft_ns_sum = 0
        self._picker = picker
        self._time = time
        balancer_ns = 0 if picker is None else delays.balancer_ns
        self._to_engine_ns = delays.to_engine_ns + balancer_ns
        self._to_client_ns = delays.to_client_ns + balancer_ns
        self._context_tokens_max = context_tokens_max
        self._places = tuple(
            DrivenService(service, time.at, partial(self._give, place)) for place, service in enumerate(services)
        )
        self._open = [0] * len(services)
        self._flights: dict[str, Flight] = {}
        self._sent = 0

    def send(self, flight: Flight) -> None:
        """At `flight.sent_ns`, which is now or later."""
        flight.id = str(self._sent)
        self._sent += 1
        self._time.at(flight.sent_ns + self._to_engine_ns, partial(self._arrive, flight))

    def cut(self, flight: Flight) -> None:
        """The client hangs up: the engine stops at once, and nobody is told of an end."""
        flight.cut = True
        if self._flights.pop(flight.id, None) is not None and flight.place is not None:
            self._places[flight.place].service.abort(flight.id)
            self._open[flight.place] -= 1

    def _arrive(self, flight: Flight) -> None:
        if flight.cut:
            return
        place = flight.place = 0 if self._picker is None else self._picker.pick(self._open)
        if len(self._places[place].service.schedulers) == 1:
            flight.upstream = f"engine{place}"
        now_ns = self._time.now_ns()
        refused = self._submit(flight, place, now_ns)
        if refused is not None:
            flight.refused = refused
            self._time.at(now_ns + self._to_client_ns, partial(_end, flight))
            return
        self._flights[flight.id] = flight
        self._open[place] += 1

    def _submit(self, flight: Flight, place: int, now_ns: int) -> Refused | None:
        whole, longest = flight.prompt_tokens + flight.max_tokens, self._context_tokens_max
        if longest is not None and whole > longest:
            return Refused(reason=f"{whole} tokens of prompt and answer, the engine's context is {longest}")
        engines = self._places[place]
        try:
            engines.add(
                Request(
                    id=flight.id,
                    prompt_tokens=flight.prompt_tokens,
                    max_tokens=flight.max_tokens,
                    stop_after=flight.stop_after,
                    arrival_ns=now_ns,
                    prompt_blocks=_shared_blocks(engines.service.schedulers[0].config, flight.prefix_tokens),
                ),
                now_ns,
            )
        except Overloaded as error:
            return Refused(reason=str(error), status=503)
        except ValueError as error:
            return Refused(reason=str(error))
        return None

    def _give(self, place: int, tokens: list[Token], now_ns: int) -> None:
        """The busiest part of a forecast: once for every token of every request."""
        flights, stamp_ns = self._flights, now_ns + self._to_client_ns
        given = 0
        for token in tokens:
            flight = flights[token.sequence.request.id]
            stamps = flight.token_ns
            if not stamps:
                self.first_tokens += 1
                self.ttft_ns_sum += stamp_ns - flight.sent_ns
            count = token.tokens
            if count == 1:
                stamps.append(stamp_ns)
            else:
                stamps.extend([stamp_ns] * count)
            given += count
            if token.finish is not None:
                self._finish(flight, place, token.finish, stamp_ns)
        self.tokens += given

    def _finish(self, flight: Flight, place: int, finish: FinishReason, stamp_ns: int) -> None:
        del self._flights[flight.id]
        flight.finish = finish
        self._open[place] -= 1
        self._time.at(stamp_ns, partial(_end, flight))


def _shared_blocks(config: SchedulerConfig, prefix_tokens: int) -> tuple[int, ...]:
    """What a prefix cache can find again: the shared prefix. The rest of a prompt is taken to be its own."""
    return tuple(range(prefix_tokens // config.block_size)) if config.prefix_caching else ()


def _end(flight: Flight) -> None:
    if not flight.cut and flight.on_end is not None:
        flight.on_end()
