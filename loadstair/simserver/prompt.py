"""A prompt as the prefix cache sees it: one hash for each full block of words, chained."""

from collections.abc import Sequence


def block_hashes(tokens: Sequence[str] | Sequence[int], block_size: int, *, lora: str | None = None) -> tuple[int, ...]:
    """Each hash stands for its block and all before it, so prompts share hashes as far as they begin alike.

    Adapters share nothing: their keys and values differ. The hashes are worth something in this process alone, as
    Python salts those of strings.
    """
    hashes: list[int] = []
    chained = hash(lora)
    for end in range(block_size, len(tokens) + 1, block_size):
        chained = hash((chained, *tokens[end - block_size : end]))
        hashes.append(chained)
    return tuple(hashes)
