"""Continuous batching as vLLM V1 does it, as a discrete-event model: no sockets, no clock, no chance.

Each step gives every running sequence its next token, in order of admission, then admits waiting prompts first come
first served, all under one token budget; long prompts are split into chunks. Keys and values live in blocks. When
they run out, the newest running sequence is preempted: it gives up all its blocks and computes them again later.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from loadstair.serving.steptime import StepModel, StepShape
from loadstair.units import ns_from_s

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    step_model: StepModel
    kv_tokens: int
    """Room of the KV cache."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    speed: float = 1.0
    """Step times are divided by it: an engine faster than the modelled GPU, to load what stands before it."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.max_num_batched_tokens < 1 or self.block_size < 1:
            raise ValueError("max_num_seqs, max_num_batched_tokens and block_size must be at least 1")
        if self.speed <= 0:
            raise ValueError("speed must be above 0")

    @property
    def blocks(self) -> int:
        return self.kv_tokens // self.block_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    id: str
    prompt_tokens: int
    max_tokens: int
    stop_after: int | None = None
    """The output token at which the model would stop by itself; None if it never does (ignore_eos)."""
    arrival_ns: int = 0

    @property
    def output_tokens(self) -> int:
        return self.max_tokens if self.stop_after is None else min(self.max_tokens, self.stop_after)

    @property
    def finish(self) -> FinishReason:
        return "stop" if self.stop_after is not None and self.stop_after <= self.max_tokens else "length"


@dataclass(slots=True, eq=False)
class Sequence:
    """A request under way. Changed by the scheduler alone."""

    request: Request
    known: int
    """Tokens whose keys and values are wanted: prompt and output so far."""
    output_tokens: int
    computed: int = 0
    """Tokens in the KV cache."""
    generated: int = 0
    blocks: int = 0
    preemptions: int = 0
    gone: bool = False
    """Finished or aborted."""
    scheduled_ns: int | None = None
    """Start of the first step it took part in; None while it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    shape: StepShape
    start_ns: int
    duration_ns: int
    scheduled: tuple[tuple[Sequence, int], ...]
    """Sequences with their tokens in this step."""

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class Token:
    """One output token of a sequence, there at the end of a step."""

    sequence: Sequence
    finish: FinishReason | None
    """None unless it is the last."""


@dataclass(slots=True)
class Counters:
    """Since the start; they only grow."""

    prompt_tokens: int = 0
    """Of prompts computed to their end, each counted once."""
    generation_tokens: int = 0
    preemptions: int = 0


@dataclass(slots=True)
class _Plan:
    scheduled: list[tuple[Sequence, int]] = field(default_factory=list)
    prefill: list[tuple[int, int]] = field(default_factory=list)
    budget: int = 0
    decode_rows: int = 0
    decode_context_tokens: int = 0
    sampled_rows: int = 0

    def take(self, sequence: Sequence, tokens: int) -> None:
        self.scheduled.append((sequence, tokens))
        self.budget -= tokens
        after = sequence.computed + tokens
        if after == sequence.known:
            self.sampled_rows += 1
        if tokens == 1 and sequence.generated:
            self.decode_rows += 1
            self.decode_context_tokens += after
        else:
            self.prefill.append((tokens, sequence.computed))

    def shape(self) -> StepShape:
        return StepShape(
            prefill=tuple(self.prefill),
            decode_rows=self.decode_rows,
            decode_context_tokens=self.decode_context_tokens,
            sampled_rows=self.sampled_rows,
        )


class Scheduler:
    """`add` and `abort` at any time; `next_step` and `finish_step` in turn."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.counters = Counters()
        self._free_blocks = config.blocks
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._by_id: dict[str, Sequence] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def blocks_used(self) -> int:
        return self.config.blocks - self._free_blocks

    def add(self, request: Request) -> Sequence:
        """Raises ValueError for a request that could never end: empty, too long for the cache, or known already."""
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"request {request.id}: prompt and output need at least one token each")
        # The last token is never fed back, so it needs no place.
        needed = self._blocks_for(request.prompt_tokens + request.output_tokens - 1)
        if needed > self.config.blocks:
            raise ValueError(f"request {request.id}: needs {needed} KV blocks, the engine has {self.config.blocks}")
        if request.id in self._by_id:
            raise ValueError(f"request {request.id}: an unfinished request has this id")
        sequence = Sequence(request=request, known=request.prompt_tokens, output_tokens=request.output_tokens)
        self._by_id[request.id] = sequence
        self._waiting.append(sequence)
        return sequence

    def abort(self, request_id: str) -> bool:
        """Frees what the request holds, in the middle of a step too; False if there is no such request."""
        sequence = self._by_id.get(request_id)
        if sequence is None:
            return False
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
        self._release(sequence)
        return True

    def next_step(self, start_ns: int) -> Step | None:
        """What runs from `start_ns` on; None if there is nothing to do."""
        plan = _Plan(budget=self.config.max_num_batched_tokens)
        preemptions_before = self.counters.preemptions
        self._continue_running(plan)
        # As vLLM: memory that was just taken from one sequence is not given to a new one.
        if self.counters.preemptions == preemptions_before:
            self._admit_waiting(plan, start_ns)
        if not plan.scheduled:
            return None
        shape = plan.shape()
        duration_ns = max(1, ns_from_s(self.config.step_model.step_s(shape) / self.config.speed))
        return Step(shape=shape, start_ns=start_ns, duration_ns=duration_ns, scheduled=tuple(plan.scheduled))

    def finish_step(self, step: Step) -> list[Token]:
        """The step's tokens; sequences aborted meanwhile get none."""
        tokens: list[Token] = []
        for sequence, count in step.scheduled:
            if sequence.gone:
                continue
            sequence.computed += count
            if sequence.computed < sequence.known:
                continue
            if sequence.generated == 0:
                self.counters.prompt_tokens += sequence.request.prompt_tokens
            sequence.generated += 1
            sequence.known += 1
            if sequence.generated == sequence.output_tokens:
                self._running.remove(sequence)
                self._release(sequence)
                tokens.append(Token(sequence, sequence.request.finish))
            else:
                tokens.append(Token(sequence, None))
        self.counters.generation_tokens += len(tokens)
        return tokens

    def _continue_running(self, plan: _Plan) -> None:
        index = 0
        while index < len(self._running) and plan.budget > 0:
            sequence = self._running[index]
            tokens = min(sequence.known - sequence.computed, plan.budget)
            while not self._grow(sequence, sequence.computed + tokens):
                if self._preempt_newest() is sequence:
                    return
            plan.take(sequence, tokens)
            index += 1

    def _admit_waiting(self, plan: _Plan, start_ns: int) -> None:
        while self._waiting and plan.budget > 0 and len(self._running) < self.config.max_num_seqs:
            sequence = self._waiting[0]
            tokens = min(sequence.known - sequence.computed, plan.budget)
            if not self._grow(sequence, tokens):
                return
            self._waiting.popleft()
            self._running.append(sequence)
            if sequence.scheduled_ns is None:
                sequence.scheduled_ns = start_ns
            plan.take(sequence, tokens)

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Gives the sequence blocks for so many tokens; False, and nothing given, if there are too few."""
        wanted = self._blocks_for(tokens) - sequence.blocks
        if wanted > self._free_blocks:
            return False
        if wanted > 0:
            self._free_blocks -= wanted
            sequence.blocks += wanted
        return True

    def _preempt_newest(self) -> Sequence:
        sequence = self._running.pop()
        self._free_blocks += sequence.blocks
        sequence.blocks = 0
        sequence.computed = 0
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.appendleft(sequence)
        return sequence

    def _release(self, sequence: Sequence) -> None:
        sequence.gone = True
        self._free_blocks += sequence.blocks
        sequence.blocks = 0
        del self._by_id[sequence.request.id]

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)
