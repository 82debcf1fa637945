"""Waiting for workers that other hosts start: who came, who was turned away, how many are missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from loadstair.clock import Deadline, sleep_s
from loadstair.errors import LoadError
from loadstair.plan.model import RemoteWorkers
from loadstair.topology.ports import bind_problem

LOOK_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Muster:
    came: tuple[str, ...]
    """Each that is ready, in words: host, address, pid."""
    turned_away: tuple[str, ...]
    """A line for each, with the reason."""


def check_address(remote: RemoteWorkers) -> None:
    """Raises LoadError where workers could not be listened for."""
    problem = bind_problem(remote.bind, remote.port)
    if problem is not None:
        raise LoadError(
            f"workers.bind: {remote.bind}:{remote.port}: {problem}: give an address of this machine that the worker "
            "hosts reach, and a free port (workers.port)"
        )


def wait_for_workers(
    remote: RemoteWorkers,
    look: Callable[[], Muster | None],
    *,
    tell: Callable[[str], None],
    wait: Callable[[float], None] = sleep_s,
) -> None:
    """Until all are ready. `look` gives None while the master cannot say; what it shows for the first time is told.

    Raises LoadError at the deadline.
    """
    deadline = Deadline.after_s(remote.wait_s)
    tell(f"waiting up to {remote.wait_s:g} s for {_workers(remote.expect)} at {remote.bind}:{remote.port}")
    seen = Muster(came=(), turned_away=())
    while True:
        now = look()
        if now is not None:
            for line in (line for line in now.turned_away if line not in seen.turned_away):
                tell(f"turned away: {line}")
            for line in (line for line in now.came if line not in seen.came):
                tell(f"worker here: {line}")
            seen = now
            if len(now.came) >= remote.expect:
                return
        if deadline.passed():
            raise LoadError(_missing_line(remote, seen))
        wait(LOOK_S)


def _missing_line(remote: RemoteWorkers, seen: Muster) -> str:
    missing = remote.expect - len(seen.came)
    came = f"came: {'; '.join(seen.came)}" if seen.came else "nobody came"
    away = f"; turned away: {'; '.join(seen.turned_away)}" if seen.turned_away else ""
    address = "MASTER" if remote.bind == "0.0.0.0" else remote.bind  # noqa: S104  as the plan has it
    return (
        f"workers: {missing} of {remote.expect} missing after {remote.wait_s:g} s ({came}{away}): start "
        f"`scripts/run_worker.sh {address}:{remote.port}` on the worker hosts, or lower workers.expect"
    )


def _workers(count: int) -> str:
    return "1 remote worker" if count == 1 else f"{count} remote workers"
