"""Who is admitted next: first come first served, or by priority."""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol, assert_never

from loadstair.simserver.sequence import Sequence

Policy = Literal["fcfs", "priority"]


class WaitingQueue(Protocol):
    def __len__(self) -> int: ...

    def add(self, sequence: Sequence) -> None:
        """One that has just come."""
        ...

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        """Those that had been taken out, in that order; preempted ones too."""
        ...

    def head(self) -> Sequence: ...

    def pop(self) -> Sequence: ...

    def discard(self, sequence: Sequence) -> bool:
        """False if it is not here."""
        ...


def waiting_queue(policy: Policy) -> WaitingQueue:
    match policy:
        case "fcfs":
            return FirstComeQueue()
        case "priority":
            return PriorityQueue()
        case _:
            assert_never(policy)


class FirstComeQueue:
    def __init__(self) -> None:
        self._sequences: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, sequence: Sequence) -> None:
        self._sequences.append(sequence)

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        self._sequences.extendleft(reversed(list(sequences)))

    def head(self) -> Sequence:
        return self._sequences[0]

    def pop(self) -> Sequence:
        return self._sequences.popleft()

    def discard(self, sequence: Sequence) -> bool:
        if sequence not in self._sequences:
            return False
        self._sequences.remove(sequence)
        return True


Rank = tuple[int, int, int]


def rank(sequence: Sequence) -> Rank:
    """The lower one goes first: by priority, then arrival, then the order of coming in."""
    return sequence.request.priority, sequence.request.arrival_ns, sequence.number


class PriorityQueue:
    def __init__(self) -> None:
        self._heap: list[tuple[Rank, Sequence]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, sequence: Sequence) -> None:
        heapq.heappush(self._heap, (rank(sequence), sequence))

    def put_back(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            self.add(sequence)

    def head(self) -> Sequence:
        return self._heap[0][1]

    def pop(self) -> Sequence:
        return heapq.heappop(self._heap)[1]

    def discard(self, sequence: Sequence) -> bool:
        kept = [entry for entry in self._heap if entry[1] is not sequence]
        if len(kept) == len(self._heap):
            return False
        heapq.heapify(kept)
        self._heap = kept
        return True
