"""A closed loop of users on simulated engines, in simulated time: what the served engine does, without sockets."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.sequence import Request, Token
from loadstair.simserver.timed import DrivenService, Service, TimedEngine
from loadstair.units import NS_PER_S

CLIENT_TURNAROUND_NS = 200_000
"""From a user's last token to its next request at the engine: it misses the step that begins at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """One request of the closed loop; times are simulated ns."""

    engine: int
    sent_ns: int
    token_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoopResult:
    traces: tuple[RequestTrace, ...]
    """Of finished requests, in the order they ended."""
    window_start_ns: int
    window_end_ns: int

    def output_tokens_per_s(self) -> float:
        """Tokens that came inside the window, over its length; requests under way at its end count up to there."""
        start_ns, end_ns = self.window_start_ns, self.window_end_ns
        tokens = sum(1 for trace in self.traces for at_ns in trace.token_ns if start_ns <= at_ns < end_ns)
        return tokens * NS_PER_S / (end_ns - start_ns)


Lengths = Callable[[int], tuple[int, int]]
"""Input and output tokens of the n-th request sent."""


def run_closed_loop(
    schedulers: tuple[Scheduler | Service, ...],
    *,
    users: int,
    lengths: Lengths,
    window_start_ns: int,
    window_end_ns: int,
    user_gap_ns: int,
) -> ClosedLoopResult:
    """Users start `user_gap_ns` apart and send their next request when the last one ended.

    Requests go round robin over the engines, each a scheduler or a service such as `PrefillDecode`. The loop runs on
    after the window until every request sent in it has ended, so that none of its tokens is missing.
    """
    services = tuple(TimedEngine(one) if isinstance(one, Scheduler) else one for one in schedulers)
    loop = _Loop(services, lengths, stop_sending_ns=window_end_ns)
    for user in range(users):
        loop.send_at(user * user_gap_ns)
    loop.run()
    return ClosedLoopResult(traces=tuple(loop.traces), window_start_ns=window_start_ns, window_end_ns=window_end_ns)


class _Loop:
    def __init__(self, services: tuple[Service, ...], lengths: Lengths, stop_sending_ns: int) -> None:
        self.traces: list[RequestTrace] = []
        self._services = [
            DrivenService(service, self._at, partial(self._record, place)) for place, service in enumerate(services)
        ]
        self._lengths = lengths
        self._stop_sending_ns = stop_sending_ns
        self._round_robin: Iterator[int] = itertools.cycle(range(len(services)))
        self._sent = 0
        self._token_ns: dict[str, list[int]] = {}
        self._order = itertools.count()
        # (time, tie-break, what happens then)
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def send_at(self, at_ns: int) -> None:
        self._at(at_ns, partial(self._send, at_ns))

    def run(self) -> None:
        while self._events:
            _, _, action = heapq.heappop(self._events)
            action()

    def _at(self, at_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), action))

    def _send(self, now_ns: int) -> None:
        if now_ns >= self._stop_sending_ns:
            return
        service = next(self._round_robin)
        input_tokens, output_tokens = self._lengths(self._sent)
        request = Request(id=str(self._sent), prompt_tokens=input_tokens, max_tokens=output_tokens, arrival_ns=now_ns)
        self._sent += 1
        self._token_ns[request.id] = []
        self._services[service].add(request, now_ns)

    def _record(self, service: int, tokens: list[Token], now_ns: int) -> None:
        for token in tokens:
            request = token.sequence.request
            self._token_ns[request.id].extend([now_ns] * token.tokens)
            if token.finish is not None:
                token_ns = tuple(self._token_ns.pop(request.id))
                self.traces.append(RequestTrace(engine=service, sent_ns=request.arrival_ns, token_ns=token_ns))
                self.send_at(now_ns + CLIENT_TURNAROUND_NS)
