"""The scheduler in real time: steps end at absolute planned times, and tokens leave at the end of their step.

A step's planned end is its planned start plus its modelled duration, and while there is work the next step starts at
that planned end, however late the process really was. So lateness shows in `loadstair_sim_step_lateness_seconds` and
does not add up into a slower engine, unless the process cannot keep up at all.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from loadstair import clock
from loadstair.simserver.answer import Answer, BrokenStreamError, SlowClientError
from loadstair.simserver.chunks import Timings
from loadstair.simserver.faults import STEADY, Pace
from loadstair.simserver.ledger import LedgerEntry, LedgerFinish, LedgerWriter
from loadstair.simserver.metrics import EngineMetrics
from loadstair.simserver.scheduler import Request, Scheduler, Sequence, Step, Token
from loadstair.units import NS_PER_MS, NS_PER_S, s_from_ns


class AbortedError(Exception):
    """The request was cut: by its own slow client, by a fault, or because the engine stops."""


@dataclass(slots=True, eq=False, kw_only=True)
class Live:
    """A request under way, with what the scheduler does not need to know."""

    request_id: str
    received_ns: int
    """CLOCK_REALTIME."""
    sequence: Sequence
    answer: Answer
    done: asyncio.Future[None]
    pooling: bool
    """Its prompt is read for an embedding: the one token that the scheduler counts for it goes to nobody."""
    first_token_ns: int | None = None
    """Planned end of the step that made it, on the monotonic clock as all that the scheduler knows."""
    last_token_ns: int = 0
    """CLOCK_REALTIME; of no meaning before the first token."""

    @property
    def output_tokens(self) -> int:
        return 0 if self.pooling else self.sequence.generated


class Engine:
    """Used from the event loop's thread alone."""

    def __init__(
        self,
        scheduler: Scheduler,
        metrics: EngineMetrics,
        ledger: LedgerWriter | None,
        loop: asyncio.AbstractEventLoop,
        monotonic_ns: Callable[[], int] = clock.monotonic_ns,
        pace: Pace = STEADY,
    ) -> None:
        """`monotonic_ns` must be the loop's own clock, and that of `pace`."""
        self.scheduler = scheduler
        self.metrics = metrics
        self._ledger = ledger
        self._loop = loop
        self._monotonic_ns = monotonic_ns
        self._pace = pace
        self._step: Step | None = None
        self._stalled = False
        self._live: dict[str, Live] = {}
        self._submitted = 0

    def submit(
        self,
        answer: Answer,
        *,
        request_id: str,
        received_ns: int,
        prompt_tokens: int,
        max_tokens: int,
        stop_after: int | None,
        priority: int = 0,
        prompt_blocks: tuple[int, ...] = (),
        lora: str | None = None,
        pooling: bool = False,
    ) -> Live:
        """`live.done` is set when the answer has its last token; it raises AbortedError if the request was cut.

        Raises ValueError for a request that the engine could never finish, and Overloaded.
        """
        # Not the client's id: nothing keeps two clients from using the same one.
        request = Request(
            id=str(self._submitted),
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            stop_after=stop_after,
            arrival_ns=self._monotonic_ns(),
            priority=priority,
            prompt_blocks=prompt_blocks,
            lora=lora,
        )
        live = Live(
            request_id=request_id,
            received_ns=received_ns,
            sequence=self.scheduler.add(request),
            answer=answer,
            done=self._loop.create_future(),
            pooling=pooling,
        )
        self._submitted += 1
        self._live[request.id] = live
        if self._step is None and not self._stalled:
            self._begin_step(request.arrival_ns)
        return live

    def abort(self, live: Live, finish: Literal["abort", "error"] = "abort") -> None:
        """Frees what the request holds; nothing happens if it has ended already."""
        if self._live.pop(live.sequence.request.id, None) is None:
            return
        self.scheduler.abort(live.sequence.request.id)
        self.metrics.finished[finish] += 1
        self.note(live, finish)
        if not live.done.done():
            live.done.set_exception(AbortedError())
            # Whoever hung up does not ask any more: an exception never fetched would be logged.
            live.done.exception()

    def abort_all(self) -> None:
        for live in list(self._live.values()):
            self.abort(live)

    @property
    def idle(self) -> bool:
        return not self._live

    def _begin_step(self, start_ns: int) -> None:
        begins_ns = self._pace.begins_ns(start_ns)
        self._stalled = begins_ns > start_ns
        if self._stalled:
            self._step = None
            self._loop.call_at(begins_ns / NS_PER_S, self._begin_step, begins_ns)
            return
        step = self.scheduler.next_step(start_ns)
        if step is not None:
            duration_ns = self._pace.duration_ns(start_ns, step.duration_ns)
            if duration_ns != step.duration_ns:
                step = replace(step, duration_ns=duration_ns)
            self._loop.call_at(step.end_ns / NS_PER_S, self._end_step)
        self._step = step

    def _end_step(self) -> None:
        step = self._step
        assert step is not None
        lateness_ns = self._monotonic_ns() - step.end_ns
        self.metrics.lateness_s.observe(s_from_ns(max(0, lateness_ns)))
        self.metrics.step_s.observe(s_from_ns(step.duration_ns))
        self.metrics.iteration_tokens.observe(step.shape.tokens)
        self.metrics.busy_rows += len(step.scheduled)
        for token in self.scheduler.finish_step(step):
            self._deliver(token, step.end_ns)
        self._begin_step(step.end_ns)

    def _deliver(self, token: Token, step_end_ns: int) -> None:
        sequence = token.sequence
        live = self._live[sequence.request.id]
        first = live.first_token_ns is None
        if first:
            live.first_token_ns = step_end_ns
            self.metrics.prompt_tokens_cached += sequence.cached_tokens
        if token.finish is not None:
            live.answer.cached_tokens = sequence.cached_tokens
            live.answer.timings = _timings(live, step_end_ns)
        try:
            token_ns = live.answer.token(sequence.generated - token.tokens, token.finish, token.tokens)
        except SlowClientError:
            self.abort(live)
            return
        except BrokenStreamError:
            self.abort(live, "error")
            return
        if first:
            self.metrics.ttft_s.observe(s_from_ns(token_ns - live.received_ns))
        else:
            self.metrics.itl_s.observe(s_from_ns(token_ns - live.last_token_ns))
        live.last_token_ns = token_ns
        if token.finish is not None:
            self._finish(live, step_end_ns, token.finish)

    def _finish(self, live: Live, end_ns: int, finish: LedgerFinish) -> None:
        sequence = live.sequence
        request = sequence.request
        del self._live[request.id]
        assert sequence.scheduled_ns is not None
        assert live.first_token_ns is not None
        metrics = self.metrics
        metrics.finished[finish] += 1
        metrics.e2e_s.observe(s_from_ns(end_ns - request.arrival_ns))
        # A late step may have been planned to start before a request came that it takes in.
        metrics.queue_s.observe(s_from_ns(max(0, sequence.scheduled_ns - request.arrival_ns)))
        metrics.prefill_s.observe(s_from_ns(live.first_token_ns - sequence.scheduled_ns))
        metrics.decode_s.observe(s_from_ns(end_ns - live.first_token_ns))
        metrics.inference_s.observe(s_from_ns(end_ns - sequence.scheduled_ns))
        if sequence.generated > 1:
            metrics.tpot_s.observe(s_from_ns(end_ns - live.first_token_ns) / (sequence.generated - 1))
        metrics.prompt_lengths.observe(request.prompt_tokens)
        metrics.generation_lengths.observe(live.output_tokens)
        metrics.longest_generations.observe(live.output_tokens)
        metrics.prefill_computed.observe(request.prompt_tokens - sequence.cached_tokens)
        metrics.preemptions.observe(sequence.preemptions)
        if live.pooling:
            metrics.pooled += 1
        else:
            metrics.max_tokens_asked.observe(request.max_tokens)
            metrics.n_asked.observe(1)
        if live.answer.write_ns:
            self.note(live, finish)
        if not live.done.done():
            live.done.set_result(None)

    def note(self, live: Live, finish: LedgerFinish) -> None:
        """Into the ledger; for others only after the one write of an answer that was not streamed."""
        if self._ledger is not None:
            self._ledger.write(
                LedgerEntry(
                    request_id=live.request_id,
                    received_ns=live.received_ns,
                    input_tokens=live.sequence.request.prompt_tokens,
                    output_tokens=live.output_tokens,
                    finish=finish,
                    write_ns=tuple(live.answer.write_ns),
                )
            )


def _timings(live: Live, end_ns: int) -> Timings:
    assert live.sequence.scheduled_ns is not None
    assert live.first_token_ns is not None
    return Timings(
        prompt_ms=(live.first_token_ns - live.sequence.scheduled_ns) / NS_PER_MS,
        predicted_ms=(end_ns - live.first_token_ns) / NS_PER_MS,
    )
