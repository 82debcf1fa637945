"""Text that a server sent, made fit to be kept: one line, bounded, and valid UTF-8."""

from typing import Final

CHARACTERS_MAX: Final = 200


def one_line(text: str, characters_max: int = CHARACTERS_MAX) -> str:
    """JSON can carry half a surrogate pair, which nothing downstream could write: it becomes a question mark."""
    return " ".join(text.split())[:characters_max].encode("utf-8", "replace").decode("utf-8")
