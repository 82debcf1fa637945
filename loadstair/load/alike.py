"""What the chunks of one stream have in common: from one to the next, most differ in their text alone.

Parsed once, such a chunk need not be parsed again: where the same bytes stand around a piece of text, it says
the same with another text. That takes a third of the time, and a worker's time decides how many streams it carries.
"""

import re
from typing import Final, NamedTuple, Self

from loadstair.load.chunks import Chunk, listed_tokens

TEXT: Final = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})++')
"""Of a JSON string, not empty."""
_KEYS: Final = (b'"content":', b'"text":', b'"reasoning_content":', b'"reasoning":')


class Form(NamedTuple):
    head: bytes
    """Of the event, from `data: ` to the text's opening quote."""
    tail: bytes
    """From its closing quote to the empty line."""

    @classmethod
    def of(cls, chunk: Chunk, data: bytes | bytearray) -> Self | None:
        """The form of an event with this data, which was read strictly as this chunk; None for one that says more
        than a piece of text."""
        text = _sole_text(chunk)
        if not text:
            return None
        quoted = b'"%b"' % text.encode()
        if TEXT.fullmatch(quoted, 1, len(quoted) - 1) is None:
            return None
        for key in _KEYS:
            for needle in (key + quoted, key + b" " + quoted):
                if data.count(needle) == 1:
                    start = data.index(needle) + len(needle) - len(quoted) + 1
                    end = start + len(quoted) - 2
                    return cls(b"data: " + bytes(data[:start]), bytes(data[end:]) + b"\n\n")
        return None


def _sole_text(chunk: Chunk) -> str | None:
    """The text of the only choice, if the chunk has nothing else that would have to be looked at."""
    if chunk.usage is not None or chunk.failed() or chunk.choices is None or len(chunk.choices) != 1:
        return None
    (choice,) = chunk.choices
    if choice.finish_reason is not None or listed_tokens(choice) is not None:
        return None
    if choice.delta is None:
        return choice.text
    texts = [choice.delta.content, choice.delta.reasoning_content, choice.delta.reasoning]
    return next((text for text in texts if isinstance(text, str) and text), None)
