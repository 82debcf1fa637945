"""One step's batch: what it holds, and the shape that its duration is computed from."""

from dataclasses import dataclass

from loadstair.serving.steptime import StepShape
from loadstair.simserver.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    shape: StepShape
    start_ns: int
    duration_ns: int
    scheduled: tuple[tuple[Sequence, int], ...]
    """Sequences with their tokens in this step, drafts included."""

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


class Batch:
    """Filled by the scheduler, up to `budget` tokens."""

    __slots__ = ("budget", "scheduled")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.scheduled: list[tuple[Sequence, int]] = []

    def take(self, sequence: Sequence, tokens: int) -> None:
        self.scheduled.append((sequence, tokens))
        self.budget -= tokens

    def give_back(self, sequence: Sequence) -> None:
        """Takes a sequence out again, if it is in."""
        for index, (taken, tokens) in enumerate(self.scheduled):
            if taken is sequence:
                del self.scheduled[index]
                self.budget += tokens
                return

    def adapters(self) -> set[str]:
        return {sequence.request.lora for sequence, _ in self.scheduled if sequence.request.lora is not None}

    def drafting_rows(self) -> int:
        """Sequences that have draft tokens to verify in this step."""
        return sum(1 for sequence, tokens in self.scheduled if sequence.computed + tokens > sequence.known)

    def shape(self) -> StepShape:
        prefill: list[tuple[int, int]] = []
        decode_rows = decode_context_tokens = sampled_rows = 0
        for sequence, tokens in self.scheduled:
            computed, known = sequence.computed, sequence.known
            if computed + 1 == known and tokens == 1 and sequence.generated:  # nearly all
                decode_rows += 1
                sampled_rows += 1
                decode_context_tokens += known
                continue
            after = computed + tokens
            drafts = 0
            if after >= known:
                # Every draft is verified by a row of logits of its own.
                drafts = after - known
                sampled_rows += 1 + drafts
            if tokens - drafts == 1 and (sequence.generated or sequence.request.transferred):
                # The rows of one sequence share one reading of its keys and values.
                decode_rows += tokens
                decode_context_tokens += after
            else:
                prefill.append((tokens, computed))
        return StepShape(
            prefill=tuple(prefill),
            decode_rows=decode_rows,
            decode_context_tokens=decode_context_tokens,
            sampled_rows=sampled_rows,
        )
