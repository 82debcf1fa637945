"""Which of a worker's users run, under which tag.

Users are only ever added; with fewer wanted, those with the highest ordinals park after their current request.
"""

from gevent.event import Event

from loadstair.load.tag import Tag
from loadstair.plan.staircase import user_begins_s


class Gate:
    def __init__(self, *, seed: int, tag: Tag, active: int | None = 0) -> None:
        """`active` None lets every user pass at once."""
        self.tag = tag
        self.rank = 0
        self.workers = 1
        self.dispatched: set[int] = set()
        """Ordinals of the users that dispatched in the current step."""
        self._seed = seed
        self._active = active
        self._growth_s = 0.0
        self._requests_per_user: int | None = None
        self._passed: dict[int, int] = {}
        """How often each user passed in the current step."""
        self._enrolled = 0
        self._next_index = 0
        self._changed = Event()

    @property
    def active(self) -> int:
        return self._enrolled if self._active is None else self._active

    def enroll(self) -> int:
        """The ordinal of a new user on this worker."""
        self._enrolled += 1
        return self._enrolled - 1

    def take_index(self) -> int:
        """The next request's index in this step: no other worker of the step takes the same."""
        index = self.rank + self.workers * self._next_index
        self._next_index += 1
        return index

    def begin_step(
        self,
        tag: Tag,
        *,
        rank: int,
        workers: int,
        active: int,
        growth_s: float,
        requests_per_user: int | None = None,
    ) -> None:
        """`requests_per_user`: how many of this step each user sends before it parks; None: no end."""
        self.tag = tag
        self.rank, self.workers = rank, workers
        self.dispatched = set()
        self._next_index = 0
        self._growth_s = growth_s
        self._requests_per_user = requests_per_user
        self._passed = {}
        self._set_active(active)

    def park_all(self) -> None:
        self._set_active(0)

    def _set_active(self, active: int) -> None:
        self._active = active
        changed, self._changed = self._changed, Event()
        changed.set()

    def pass_through(self, ordinal: int) -> None:
        """Returns when this user may send. One that had to wait begins at a seeded moment within the growth time,
        so that the prefills of a step's new users do not come together."""
        while not self._is_open(ordinal):
            self._changed.wait()
            if self._is_open(ordinal):
                self._changed.wait(
                    timeout=user_begins_s(
                        self._growth_s, seed=self._seed, step=self.tag.step, rank=self.rank, ordinal=ordinal
                    )
                )
        self._passed[ordinal] = self._passed.get(ordinal, 0) + 1

    def _is_open(self, ordinal: int) -> bool:
        if self._active is None:
            return True
        quota = self._requests_per_user
        return ordinal < self._active and (quota is None or self._passed.get(ordinal, 0) < quota)


def shares(users: int, spawned: dict[str, int]) -> dict[str, int]:
    """How many users run on each worker: all of them, or as even a share as what is spawned there allows."""
    active = dict.fromkeys(spawned, 0)
    for _ in range(min(users, sum(spawned.values()))):
        least = min(
            (client_id for client_id in spawned if active[client_id] < spawned[client_id]), key=active.__getitem__
        )
        active[least] += 1
    return active
