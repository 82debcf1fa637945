import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from loadstair.clock import Deadline, sleep_s
from loadstair.plan.model import Plan
from loadstair.topology.bring_up import bring_up
from loadstair.topology.running import RunningTopology

BringUp = Callable[..., AbstractContextManager[RunningTopology]]


@pytest.fixture
def bring_up_first(tmp_path: Path) -> BringUp:
    """`bring_up` of a plan's first topology, logs in tmp_path."""

    def first(plan: Plan, *, visit: int = 1) -> AbstractContextManager[RunningTopology]:
        return bring_up(plan.topologies[0], plan=plan, plan_dir=tmp_path, log_dir=tmp_path / "log", visit=visit)

    return first


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Nothing that a test starts may outlive it, grandchildren included."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    assert not left


def wait_until_ended(processes: Sequence[psutil.Process]) -> None:
    """Until each is gone, or a zombie that its new parent has not reaped; fails only if one never ends."""
    deadline = Deadline.after_s(60)
    while not all(has_ended(process) for process in processes):
        assert not deadline.passed(), f"still running: {processes}"
        sleep_s(0.01)


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_child(running: RunningTopology, name: str) -> None:
    """SIGKILL to one of the topology's processes, and until it has ended."""
    (child,) = (child for child in running.children if child.name == name)
    os.kill(child.pid, signal.SIGKILL)
    while child.exit_status() is None:
        sleep_s(0.01)


def listens(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port or 80), timeout=1):
        return True
    return False


@pytest.fixture
def foreign_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
