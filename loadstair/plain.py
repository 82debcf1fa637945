"""Text that a server or its log sent, made fit to be kept and shown: one line, bounded, valid UTF-8, nothing that a
terminal would obey."""

import re
from typing import Final

CHARACTERS_MAX: Final = 200
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str, characters_max: int = CHARACTERS_MAX) -> str:
    """JSON can carry half a surrogate pair, which nothing downstream could write: it becomes a question mark."""
    line = without_controls(" ".join(text.split()))
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"


def without_controls(text: str) -> str:
    """Escape sequences lose their escape, text that turns its direction loses that; line ends and tabs stay."""
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")
