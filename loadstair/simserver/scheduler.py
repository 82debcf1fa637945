"""Continuous batching as vLLM V1 does it, as a discrete-event model: no sockets, no clock, and no chance but that which
a seed gives.

Each step gives every running sequence its next token, in order of admission, then admits waiting prompts, all under one
token budget; long prompts are split into chunks. Keys and values live in blocks. When they run out, a running sequence
is preempted (the newest, or the one of the lowest priority): it gives up its blocks and computes them again later.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from loadstair.serving.steptime import StepModel, StepShape
from loadstair.simserver.batch import Batch, Step
from loadstair.simserver.blocks import BlockPool, CountedBlocks, SharedBlocks
from loadstair.simserver.lora import LoraLimit
from loadstair.simserver.sequence import FinishReason, Request, Sequence, Token
from loadstair.simserver.sharing import SharedGpu
from loadstair.simserver.speculation import Speculation
from loadstair.simserver.waiting import Policy, rank, waiting_queue
from loadstair.units import ns_from_s

__all__ = [
    "Counters",
    "FinishReason",
    "Overloaded",
    "Request",
    "Scheduler",
    "SchedulerConfig",
    "Sequence",
    "Step",
    "Token",
]


class Overloaded(Exception):  # noqa: N818 - the agreed name
    """So many requests are under way that the engine takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """What stands after `speed` is off by default."""

    step_model: StepModel
    kv_tokens: int
    """Room of the KV cache."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    speed: float = 1.0
    """Step times are divided by it: an engine faster than the modelled GPU, to load what stands before it, or slower,
    as a replica with lower clocks."""
    policy: Policy = "fcfs"
    prefix_caching: bool = False
    max_num_queued_reqs: int | None = None
    """Requests under way, waiting and running together; `add` raises Overloaded for more."""
    speculation: Speculation | None = None
    loras: LoraLimit | None = None
    gpu_share: float = 1.0
    """Share of the GPU's time that the engine gets, always: the rest belongs to engines in other processes, which are
    taken to be busy. For engines in one process there is `SharedGpu`."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.max_num_batched_tokens < 1 or self.block_size < 1:
            raise ValueError("max_num_seqs, max_num_batched_tokens and block_size must be at least 1")
        if self.speed <= 0:
            raise ValueError("speed must be above 0")
        if self.max_num_queued_reqs is not None and self.max_num_queued_reqs < 1:
            raise ValueError("max_num_queued_reqs must be at least 1")
        if not 0 < self.gpu_share <= 1:
            raise ValueError("gpu_share must lie in (0, 1]")

    @property
    def blocks(self) -> int:
        return self.kv_tokens // self.block_size

    @property
    def draft_tokens(self) -> int:
        """Drafts in each decode step of a sequence; 0 without speculation."""
        return 0 if self.speculation is None else self.speculation.tokens


@dataclass(slots=True)
class Counters:
    """Since the start; they only grow."""

    prompt_tokens: int = 0
    """Of prompts computed to their end, each counted once; what the prefix cache held counts too."""
    generation_tokens: int = 0
    requests_finished: int = 0
    """To their end; not those that were aborted."""
    preemptions: int = 0
    prefix_cache_queries: int = 0
    """Prompt tokens looked up in the prefix cache: each prompt once, when it is first admitted."""
    prefix_cache_hits: int = 0
    """Tokens of these that were there."""
    admission_rejections: int = 0
    drafts: int = 0
    """Decode steps of single sequences that had drafts to verify."""
    draft_tokens: int = 0
    accepted_tokens: int = 0
    """Drafts accepted by the model; those past an answer's end count."""
    accepted_by_position: list[int] = field(default_factory=list)
    """The same, by the draft's place in its step; empty without speculation."""


class Scheduler:
    """`add` and `abort` at any time; `next_step` and `finish_step` in turn."""

    def __init__(self, config: SchedulerConfig, gpu: SharedGpu | None = None) -> None:
        """`gpu`: where other schedulers of this process run as well."""
        self.config = config
        self.counters = Counters(accepted_by_position=[0] * config.draft_tokens)
        self._gpu = gpu
        self._pool: BlockPool = (SharedBlocks if config.prefix_caching else CountedBlocks)(
            config.blocks, config.block_size
        )
        self._waiting = waiting_queue(config.policy)
        self._running: list[Sequence] = []
        self._by_id: dict[str, Sequence] = {}
        self._taken_in = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def running_adapters(self) -> tuple[str, ...]:
        return _adapters(self._running)

    @property
    def waiting_adapters(self) -> tuple[str, ...]:
        running = set(self._running)
        return _adapters(sequence for sequence in self._by_id.values() if sequence not in running)

    @property
    def blocks_used(self) -> int:
        return self._pool.used

    def add(self, request: Request) -> Sequence:
        """Raises Overloaded, and ValueError for a request that could never end (as `check`) or whose id is taken."""
        self.check(request)
        if request.id in self._by_id:
            raise ValueError(f"request {request.id}: an unfinished request has this id")
        self.check_admission()
        sequence = Sequence(
            request=request,
            number=self._taken_in,
            known=request.prompt_tokens,
            output_tokens=request.output_tokens,
        )
        self._taken_in += 1
        self._by_id[request.id] = sequence
        self._waiting.add(sequence)
        return sequence

    def check(self, request: Request) -> None:
        """Raises ValueError for a request that could never end: empty, too long for the cache, with an adapter where
        there are none."""
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"request {request.id}: prompt and output need at least one token each")
        if request.lora is not None and self.config.loras is None:
            raise ValueError(f"request {request.id}: wants adapter {request.lora}, the engine has none")
        # The last token is never fed back, so it needs no place; drafts beside it do.
        needed = self._blocks_for(request.prompt_tokens + request.output_tokens - 1 + self.config.draft_tokens)
        if needed > self.config.blocks:
            raise ValueError(f"request {request.id}: needs {needed} KV blocks, the engine has {self.config.blocks}")

    def check_admission(self, requests: int = 1) -> None:
        """Raises Overloaded, and counts it, if so many more requests would be too many."""
        most = self.config.max_num_queued_reqs
        if most is not None and len(self._by_id) + requests > most:
            self.counters.admission_rejections += 1
            raise Overloaded(f"{len(self._by_id)} requests are under way, max_num_queued_reqs is {most}")

    def abort(self, request_id: str) -> bool:
        """Frees what the request holds, in the middle of a step too; False if there is no such request."""
        sequence = self._by_id.get(request_id)
        if sequence is None:
            return False
        if not self._waiting.discard(sequence):
            self._running.remove(sequence)
        self._release(sequence)
        return True

    def next_step(self, start_ns: int) -> Step | None:
        """What runs from `start_ns` on; None if there is nothing to do."""
        batch = Batch(self.config.max_num_batched_tokens)
        preemptions_before = self.counters.preemptions
        self._continue_running(batch)
        # As vLLM: memory that was just taken from one sequence is not given to a new one.
        if self.counters.preemptions == preemptions_before:
            self._admit_waiting(batch, start_ns)
        if not batch.scheduled:
            return None
        shape = batch.shape()
        duration_ns = max(1, ns_from_s(self._duration_s(batch, shape)))
        return Step(shape=shape, start_ns=start_ns, duration_ns=duration_ns, scheduled=tuple(batch.scheduled))

    def finish_step(self, step: Step) -> list[Token]:
        """The step's tokens, one entry for each sequence that got any; sequences aborted meanwhile get none."""
        if self._gpu is not None:
            self._gpu.end()
        tokens: list[Token] = []
        for sequence, count in step.scheduled:
            if sequence.gone:
                continue
            known = sequence.known
            computed = sequence.computed + count
            if computed < known:
                sequence.computed = computed
                continue
            new = 1 if computed == known else 1 + self._verify(sequence, computed - known)
            if sequence.generated == 0:
                self.counters.prompt_tokens += sequence.request.prompt_tokens
            generated = sequence.generated = sequence.generated + new
            sequence.known = known + new
            # The newest token is not in the cache yet.
            sequence.computed = known + new - 1
            if generated == sequence.output_tokens:
                self._running.remove(sequence)
                self._release(sequence)
                self.counters.requests_finished += 1
                tokens.append(Token(sequence, sequence.request.finish, new))
            else:
                tokens.append(sequence.usual_token() if new == 1 else Token(sequence, None, new))
        self.counters.generation_tokens += sum([token.tokens for token in tokens])
        return tokens

    def _verify(self, sequence: Sequence, drafts: int) -> int:
        """How many of a sequence's drafts become tokens of its answer."""
        assert self.config.speculation is not None
        accepted = self.config.speculation.accepted(drafts, sequence=sequence.number, position=sequence.generated)
        self.counters.drafts += 1
        self.counters.draft_tokens += drafts
        self.counters.accepted_tokens += accepted
        for position in range(accepted):
            self.counters.accepted_by_position[position] += 1
        return min(accepted, sequence.output_tokens - sequence.generated - 1)

    def _continue_running(self, batch: Batch) -> None:
        running, pool, drafts = self._running, self._pool, self.config.draft_tokens
        block_size = self.config.block_size
        take, budget = batch.scheduled.append, batch.budget
        index = 0
        while index < len(running) and budget > 0:
            sequence = running[index]
            computed = sequence.computed
            tokens = sequence.known - computed
            if drafts and tokens == 1 and sequence.generated:
                tokens += drafts
            if tokens > budget:
                tokens = budget
            after = computed + tokens
            if after > sequence.blocks * block_size and not pool.grow(sequence, after):
                # Tried again with what that frees; if it was this one that gave way, the next has its place.
                batch.budget = budget
                if self._preempt(batch) < index:
                    index -= 1
                budget = batch.budget
                continue
            take((sequence, tokens))
            budget -= tokens
            index += 1
        batch.budget = budget

    def _admit_waiting(self, batch: Batch, start_ns: int) -> None:
        waiting, loras = self._waiting, self.config.loras
        adapters = set() if loras is None else batch.adapters()
        passed_over: list[Sequence] = []
        while len(waiting) and batch.budget > 0 and len(self._running) < self.config.max_num_seqs:
            sequence = waiting.head()
            adapter = sequence.request.lora
            if loras is not None and not loras.admits(adapter, adapters):
                passed_over.append(waiting.pop())
                continue
            if not self._admit(sequence, batch):
                break
            waiting.pop()
            if adapter is not None:
                adapters.add(adapter)
            if sequence.scheduled_ns is None:
                sequence.scheduled_ns = start_ns
        waiting.put_back(passed_over)

    def _admit(self, sequence: Sequence, batch: Batch) -> bool:
        """False, and nothing changed, if there are too few blocks for it."""
        cached_tokens = self._pool.cached_tokens(sequence)
        computed = cached_tokens
        if sequence.request.transferred and sequence.preemptions == 0:
            computed = sequence.request.prompt_tokens - 1
        tokens = min(sequence.known - computed, batch.budget)
        if not self._pool.admit(sequence, cached_tokens, computed + tokens):
            return False
        sequence.computed = computed
        if self.config.prefix_caching and sequence.scheduled_ns is None:
            sequence.cached_tokens = cached_tokens
            self.counters.prefix_cache_queries += sequence.request.prompt_tokens
            self.counters.prefix_cache_hits += cached_tokens
        self._running.append(sequence)
        batch.take(sequence, tokens)
        return True

    def _preempt(self, batch: Batch) -> int:
        """Takes one sequence out of the running ones and out of the batch; its place among the running."""
        running = self._running
        index = len(running) - 1
        if self.config.policy == "priority":
            index = max(range(len(running)), key=lambda place: rank(running[place]))
        sequence = running.pop(index)
        batch.give_back(sequence)
        self._pool.release(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.put_back([sequence])
        return index

    def _duration_s(self, batch: Batch, shape: StepShape) -> float:
        config = self.config
        step_s = config.step_model.step_s(shape)
        if config.speculation is not None:
            step_s += config.speculation.draft_s(
                config.step_model, rows=batch.drafting_rows(), context_tokens=shape.decode_context_tokens
            )
        if config.loras is not None and batch.adapters():
            step_s += config.loras.step_s
        if self._gpu is not None:
            step_s *= self._gpu.begin()
        return step_s / config.speed / config.gpu_share

    def _release(self, sequence: Sequence) -> None:
        sequence.gone = True
        sequence.forget_token()
        self._pool.release(sequence)
        del self._by_id[sequence.request.id]

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)


def _adapters(sequences: Iterable[Sequence]) -> tuple[str, ...]:
    """Each once."""
    return tuple(dict.fromkeys(one.request.lora for one in sequences if one.request.lora is not None))
