"""Prompts of a wanted length, from shipped English text.

Order within a prompt: the shared prefix (the same for every request that has one), then the request's own unique
word, then text from a seeded place. So a prefix cache can answer for the prefix, where the plan wants one, and for
nothing else.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from loadstair.plan.workload import RequestSpec

TEXT_FILES: Final = ("harbour.txt", "orchard.txt", "workshop.txt")
CALIBRATION_TOKENS_MIN: Final = 200
"""Tokens to have seen before the correction is used. Few, so that the first and lightest step has it as well."""
CALIBRATION_TOKENS_MAX: Final = 5000
"""Tokens after which the correction stands: all later steps ask for lengths of one kind."""


def shipped_words() -> list[str]:
    folder = files("loadstair.load").joinpath("text")
    return [word for name in TEXT_FILES for word in folder.joinpath(name).read_text(encoding="utf-8").split()]


@dataclass(frozen=True, slots=True)
class Prompt:
    prefix: str | None
    text: str
    words: int
    """Of prefix and text together."""


class PromptMaker:
    """`words_per_token` scales lengths given in tokens; `correct` moves it towards what the server counts."""

    def __init__(self, words: list[str], *, words_per_token: float, salt: bool) -> None:
        self._words = words
        self._words_per_token = words_per_token
        self._salt = salt
        self._words_seen = 0
        self._tokens_seen = 0

    @property
    def words_per_token(self) -> float:
        return self._words_per_token

    def prompt(self, spec: RequestSpec, request_id: str) -> Prompt:
        words = max(1, round(spec.input_tokens * self._words_per_token))
        prefix_words = round(spec.prefix_tokens * self._words_per_token) if spec.prefix_tokens else 0
        own = max(1, words - prefix_words)
        prefix = self._run(0, prefix_words) if prefix_words else None
        start = spec.text_seed % len(self._words)
        if not self._salt:
            text = self._run(start, own)
        elif own == 1:
            text = request_id[:8]
        else:
            text = f"{request_id[:8]} {self._run(start, own - 1)}"
        return Prompt(prefix, text, prefix_words + own)

    def correct(self, prompt_words: int, input_tokens: int) -> None:
        """Learns from one answered request. For warm-up only: a hold's lengths should be of one kind."""
        if self._tokens_seen >= CALIBRATION_TOKENS_MAX:
            return
        self._words_seen += prompt_words
        self._tokens_seen += input_tokens
        if self._tokens_seen >= CALIBRATION_TOKENS_MIN:
            self._words_per_token = self._words_seen / self._tokens_seen

    def _run(self, start: int, count: int) -> str:
        """`count` words in a row, going round at the end."""
        words = self._words
        taken = words[start : start + count]
        while len(taken) < count:
            taken += words[: count - len(taken)]
        return " ".join(taken)
