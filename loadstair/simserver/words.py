"""What the engine writes and reads: a word is a token.

Output is one round of words after the other, all of one length, so that a stream's frames differ in these bytes
alone.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

WORDS = (
    *("measure", "latency", "balance", "through", "morning", "channel", "program", "quality"),
    *("science", "weather", "journey", "kitchen", "history", "diamond", "library", "evening"),
)
TOKEN_TEXTS = tuple(f" {word}" for word in WORDS)
TOKEN_BYTES = tuple(text.encode() for text in TOKEN_TEXTS)
TOKEN_CHARACTERS = len(TOKEN_TEXTS[0])
LOGPROB = -math.log(len(WORDS))
"""Of every token: all words are as likely."""
KNOWN_WORDS_MAX = 100_000


def text_of(numbers: Iterable[int]) -> str:
    """The output tokens with these numbers (from 0)."""
    return "".join(TOKEN_TEXTS[number % len(TOKEN_TEXTS)] for number in numbers)


@dataclass(frozen=True, slots=True)
class StopString:
    """A stop string that the output will contain."""

    text: str
    after_tokens: int
    """It ends in the last of so many tokens."""
    kept_characters: int
    """Of that token, those before the stop string: what follows is not sent."""


def first_stop(stops: tuple[str, ...], *, min_tokens: int) -> StopString | None:
    """The stop string that ends first in the output, but not in its first `min_tokens` tokens."""
    longest = max((len(stop) for stop in stops), default=0)
    # One round more than the longest can span: what does not occur in it never does.
    tokens = min_tokens + 2 * len(WORDS) + longest // TOKEN_CHARACTERS
    output = text_of(range(tokens))
    found: list[tuple[int, StopString]] = []
    for stop in stops:
        at = output.find(stop, max(0, min_tokens * TOKEN_CHARACTERS - len(stop) + 1))
        if at >= 0:
            end = at + len(stop)
            after = -(-end // TOKEN_CHARACTERS)
            kept = max(0, at - (after - 1) * TOKEN_CHARACTERS)
            found.append((end, StopString(stop, after, kept)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


class Vocabulary:
    """Token ids of words: a checksum, and for the way back the words that were asked for."""

    def __init__(self, size: int) -> None:
        """`size`: the model's number of token ids."""
        self._size = size
        self._words: dict[int, str] = {}

    def encode(self, words: Iterable[str]) -> list[int]:
        return [self._id(word) for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Words that were never encoded here are those of the output."""
        return " ".join(self._words.get(token, WORDS[token % len(WORDS)]) for token in ids)

    def _id(self, word: str) -> int:
        token = zlib.crc32(word.encode()) % self._size
        if len(self._words) < KNOWN_WORDS_MAX:
            self._words.setdefault(token, word)
        return token
