"""Which engine gets the next request: nginx's policies, as its sources carry them out for servers of equal weight.

The counts are exact: all nginx workers share them (`zone`). Source: nginx's documentation of the upstream module.
"""

import random
from collections.abc import Sequence
from typing import Literal, Protocol, assert_never

Policy = Literal["round_robin", "least_conn", "random_two", "hash"]


class Picker(Protocol):
    def pick(self, open_requests: Sequence[int]) -> int:
        """The engine's place; `open_requests` is how many each engine has under way."""


def picker(policy: Policy, engines: int, *, seed: int) -> Picker:
    match policy:
        case "round_robin":
            return RoundRobin(engines)
        case "least_conn":
            return LeastConnections(engines)
        case "random_two":
            return RandomTwo(seed)
        case "hash":
            return HashOfRequest(seed)
        case _:
            assert_never(policy)


class RoundRobin:
    """nginx's smooth weighted one, over those that are asked for."""

    def __init__(self, engines: int) -> None:
        self._credit = [0] * engines

    def pick(self, open_requests: Sequence[int]) -> int:
        return self.among(range(len(open_requests)))

    def among(self, places: Sequence[int]) -> int:
        for place in places:
            self._credit[place] += 1
        chosen = max(places, key=self._credit.__getitem__)
        self._credit[chosen] -= len(places)
        return chosen


class LeastConnections:
    """The engine with the fewest; those that have equally few take turns."""

    def __init__(self, engines: int) -> None:
        self._turns = RoundRobin(engines)

    def pick(self, open_requests: Sequence[int]) -> int:
        fewest = min(open_requests)
        return self._turns.among([place for place, count in enumerate(open_requests) if count == fewest])


class RandomTwo:
    """Of two drawn engines the one with fewer (`random two least_conn`)."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def pick(self, open_requests: Sequence[int]) -> int:
        if len(open_requests) == 1:
            return 0
        first, second = self._rng.sample(range(len(open_requests)), 2)
        return second if open_requests[second] < open_requests[first] else first


class HashOfRequest:
    """The load names no session, so nginx hashes each request's own id: an engine by chance."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def pick(self, open_requests: Sequence[int]) -> int:
        return self._rng.randrange(len(open_requests))
