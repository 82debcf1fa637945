"""Prefill and decode on engines of their own: prompts are computed in one pool, their keys and values are sent to the
other, and all output tokens come from there.

As vLLM with a KV connector and a router: the prefill engine makes one token, which nobody sees; the decode engine takes
the transferred blocks and computes the last prompt token, which gives the answer's first token. So the time to first
token holds the prefill, the transfer and one step of the decode engine. Each prefill engine sends over a link of its
own, one prompt after another. Left out: that a prefill engine keeps a prompt's blocks until they are sent, and a
transfer that begins before the prefill has ended.
"""

import heapq
from dataclasses import dataclass, replace

from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.sequence import Request, Token
from loadstair.simserver.timed import TimedEngine
from loadstair.units import ns_from_s


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLink:
    kv_bytes_per_token: int
    """Of all layers together."""
    bytes_per_s: float
    start_s: float = 0.0
    """What every transfer takes, however short."""

    def __post_init__(self) -> None:
        if self.kv_bytes_per_token < 0 or self.bytes_per_s <= 0 or self.start_s < 0:
            raise ValueError("a link needs bytes_per_s above 0; kv_bytes_per_token and start_s must be at least 0")

    def transfer_ns(self, tokens: int) -> int:
        return ns_from_s(self.start_s + tokens * self.kv_bytes_per_token / self.bytes_per_s)


class PrefillDecode:
    """A `Service` of two pools. A request goes where fewest are under way, to the first of equals."""

    def __init__(self, prefill: tuple[Scheduler, ...], decode: tuple[Scheduler, ...], link: KvLink) -> None:
        """Raises ValueError for an empty pool, and for decode engines that refuse requests: it would be too late."""
        if not prefill or not decode:
            raise ValueError("prefill and decode need at least one engine each")
        if any(scheduler.config.max_num_queued_reqs is not None for scheduler in decode):
            raise ValueError("max_num_queued_reqs is for the prefill engines: a decode engine cannot refuse a prompt")
        self._prefill = tuple(TimedEngine(scheduler) for scheduler in prefill)
        self._decode = tuple(TimedEngine(scheduler) for scheduler in decode)
        self._link = link
        self._link_free_ns = [0] * len(prefill)
        self._requests: dict[str, Request] = {}
        """All that are under way, as they were asked for."""
        self._transfers: list[tuple[int, int, str]] = []
        """(end, order, request id), a heap."""
        self._sent = 0

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        return tuple(engine.scheduler for engine in (*self._prefill, *self._decode))

    @property
    def answering(self) -> tuple[Scheduler, ...]:
        return tuple(engine.scheduler for engine in self._decode)

    @property
    def next_ns(self) -> int | None:
        times = [engine.next_ns for engine in (*self._prefill, *self._decode)]
        if self._transfers:
            times.append(self._transfers[0][0])
        return min((time for time in times if time is not None), default=None)

    def add(self, request: Request, now_ns: int) -> None:
        for engine in self._decode:
            engine.scheduler.check(request)
        if request.id in self._requests:
            raise ValueError(f"request {request.id}: an unfinished request has this id")
        _least_busy(self._prefill).add(replace(request, max_tokens=1, stop_after=None), now_ns)
        self._requests[request.id] = request

    def abort(self, request_id: str) -> bool:
        if self._requests.pop(request_id, None) is None:
            return False
        for engine in (*self._prefill, *self._decode):
            engine.abort(request_id)
        return True

    def advance(self, now_ns: int) -> list[Token]:
        for index, engine in enumerate(self._prefill):
            for token in engine.advance(now_ns):
                self._send(token.sequence.request, index, now_ns)
        tokens = [token for engine in self._decode for token in engine.advance(now_ns)]
        for token in tokens:
            if token.finish is not None:
                del self._requests[token.sequence.request.id]
        while self._transfers and self._transfers[0][0] <= now_ns:
            _, _, request_id = heapq.heappop(self._transfers)
            # An abort may have come during the transfer.
            request = self._requests.get(request_id)
            if request is not None:
                _least_busy(self._decode).add(replace(request, transferred=True), now_ns)
        return tokens

    def _send(self, request: Request, engine: int, now_ns: int) -> None:
        start_ns = max(now_ns, self._link_free_ns[engine])
        end_ns = start_ns + self._link.transfer_ns(request.prompt_tokens)
        self._link_free_ns[engine] = end_ns
        heapq.heappush(self._transfers, (end_ns, self._sent, request.id))
        self._sent += 1


def _least_busy(engines: tuple[TimedEngine, ...]) -> TimedEngine:
    return min(engines, key=lambda engine: engine.requests)
