"""The KV cache in blocks of some tokens: who holds how many, and with a prefix cache which ones."""

from collections import OrderedDict
from typing import Protocol

from loadstair.simserver.sequence import Sequence

BlockKey = int | tuple[int, int]
"""What a full block holds: the chained hash of a prompt's block, or (sequence number, block) for what no other prompt
can hold, such as output."""


class BlockPool(Protocol):
    @property
    def used(self) -> int:
        """Blocks that some sequence holds; what is only kept for its content counts as free."""
        ...

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens at the sequence's beginning that are in the cache: whole blocks, never all of its known tokens."""
        ...

    def admit(self, sequence: Sequence, cached_tokens: int, tokens: int) -> bool:
        """Gives a sequence without blocks those found by `cached_tokens`, and more until there is room for `tokens`.
        False, and nothing given, if too few are free."""
        ...

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        """As `admit`, for a sequence that has blocks already."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Takes back all that the sequence holds."""
        ...


class CountedBlocks:
    """Blocks without content: a count is enough."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.used = 0
        self._blocks = blocks
        self._block_size = block_size

    def cached_tokens(self, sequence: Sequence) -> int:  # noqa: ARG002 - as the protocol has it
        return 0

    def admit(self, sequence: Sequence, cached_tokens: int, tokens: int) -> bool:  # noqa: ARG002
        return self.grow(sequence, tokens)

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        wanted = -(-tokens // self._block_size) - sequence.blocks
        if wanted <= 0:
            return True
        if self.used + wanted > self._blocks:
            return False
        self.used += wanted
        sequence.blocks += wanted
        return True

    def release(self, sequence: Sequence) -> None:
        self.used -= sequence.blocks
        sequence.blocks = 0


class SharedBlocks:
    """Blocks that keep their content after their last holder has gone, as vLLM's prefix cache does.

    A full block is found by its key from the moment it is scheduled to be filled: a prompt in the same step may share
    it, since each layer writes keys and values before it reads them. New blocks come from the free ones, the longest
    unused first; taking one forgets its content. Of a sequence's blocks the last becomes free first, so that the
    beginnings, which others are likelier to share, are kept longest.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        self._block_size = block_size
        self._blocks = blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        """Longest unused first."""
        self._holders = [0] * blocks
        self._key_of: list[BlockKey | None] = [None] * blocks
        self._by_key: dict[BlockKey, int] = {}
        self._held: dict[Sequence, list[int]] = {}
        self._named: dict[Sequence, int] = {}
        """How many of the sequence's blocks can be found by their key, or need not because another one can."""

    @property
    def used(self) -> int:
        return self._blocks - len(self._free)

    def cached_tokens(self, sequence: Sequence) -> int:
        # One token at least must be computed: without it there would be nothing to sample from.
        most = (sequence.known - 1) // self._block_size
        found = 0
        while found < most and self._key(sequence, found) in self._by_key:
            found += 1
        return found * self._block_size

    def admit(self, sequence: Sequence, cached_tokens: int, tokens: int) -> bool:
        shared = [self._by_key[self._key(sequence, index)] for index in range(cached_tokens // self._block_size)]
        idle = sum(1 for block in shared if not self._holders[block])
        wanted = -(-tokens // self._block_size) - len(shared)
        if wanted + idle > len(self._free):
            return False
        for block in shared:
            if not self._holders[block]:
                del self._free[block]
            self._holders[block] += 1
        self._held[sequence] = shared
        self._named[sequence] = sequence.blocks = len(shared)
        return self.grow(sequence, tokens)

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        wanted = -(-tokens // self._block_size) - sequence.blocks
        if wanted > len(self._free):
            return False
        held = self._held[sequence]
        for _ in range(wanted):
            held.append(self._take_free())
        sequence.blocks = len(held)
        # Drafts may be refused: what they would hold is not known yet.
        self._name_full(sequence, held, min(tokens, sequence.known))
        return True

    def release(self, sequence: Sequence) -> None:
        held = self._held.pop(sequence, [])
        self._settle_names(sequence, held)
        for block in reversed(held):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None
        sequence.blocks = 0

    def _take_free(self) -> int:
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._holders[block] = 1
        return block

    def _name_full(self, sequence: Sequence, held: list[int], tokens: int) -> None:
        full = tokens // self._block_size
        for index in range(self._named[sequence], full):
            key = self._key(sequence, index)
            if key not in self._by_key:
                self._by_key[key] = held[index]
                self._key_of[held[index]] = key
        self._named[sequence] = max(self._named[sequence], full)

    def _settle_names(self, sequence: Sequence, held: list[int]) -> None:
        """Of one that leaves: names what it has computed, and nothing that it was only about to compute."""
        if not held:
            return
        self._name_full(sequence, held, sequence.computed)
        for block in held[sequence.computed // self._block_size : self._named.pop(sequence)]:
            self._forget(block)

    def _forget(self, block: int) -> None:
        key = self._key_of[block]
        if key is not None:
            del self._by_key[key]
            self._key_of[block] = None

    def _key(self, sequence: Sequence, index: int) -> BlockKey:
        hashes = sequence.request.prompt_blocks
        return hashes[index] if index < len(hashes) else (sequence.number, index)
