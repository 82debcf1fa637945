"""A request, and how far an engine has come with it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    id: str
    prompt_tokens: int
    max_tokens: int
    stop_after: int | None = None
    """The output token at which the model would stop by itself; None if it never does (ignore_eos)."""
    arrival_ns: int = 0
    priority: int = 0
    """Lower ones go first where the policy is `priority`; of no meaning under `fcfs`."""
    prompt_blocks: tuple[int, ...] = ()
    """Chained hashes of the prompt's full blocks, in order (`prompt.block_hashes`). Without them nobody shares its
    blocks."""
    lora: str | None = None
    """The adapter it wants; None for the model itself."""
    transferred: bool = False
    """Keys and values of all but the last prompt token come from a prefill engine: only that token is computed here."""

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
    number: int
    """Of all that the engine took in, from 0."""
    known: int
    """Tokens whose keys and values are wanted: prompt and output so far."""
    output_tokens: int
    computed: int = 0
    """Tokens in the KV cache."""
    generated: int = 0
    blocks: int = 0
    preemptions: int = 0
    cached_tokens: int = 0
    """Of its prompt, found in the prefix cache when it was first admitted."""
    gone: bool = False
    """Finished or aborted."""
    scheduled_ns: int | None = None
    """Start of the first step it took part in; None while it waits."""
    _usual_token: "Token | None" = None

    def usual_token(self) -> "Token":
        """One token, not the last: made once, because nearly all are like that."""
        token = self._usual_token
        if token is None:
            token = self._usual_token = Token(self, None)
        return token

    def forget_token(self) -> None:
        """It names the sequence that keeps it: without this only the garbage collector would free the two."""
        self._usual_token = None


class Token(NamedTuple):
    """What a step gave to one sequence, there at the end of the step."""

    sequence: Sequence
    finish: FinishReason | None
    """None unless it is the last."""
    tokens: int = 1
    """Output tokens that leave together: more than one only where drafts were accepted."""
