"""Engine processes on this machine: start them, wait until all of them are ready, within one deadline."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadstair.child import Child, exit_line, start_child
from loadstair.clock import Deadline, sleep_s
from loadstair.errors import TopologyError
from loadstair.fetch import FetchError, fetch
from loadstair.topology.access import host_and_port, origin
from loadstair.topology.endpoint import Replica
from loadstair.topology.ports import free_ports, is_taken, someone_listens

PORT_ATTEMPTS = 4
POLL_S = 0.05
POLL_TIMEOUT_S = 2.0
READY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """One engine to start on one port: nothing is left to choose."""

    name: str
    command: tuple[str, ...]
    ready_url: str
    metrics_url: str | None
    """None: look whether the origin serves /metrics."""
    env: Mapping[str, str] | None = None
    """The whole environment; None inherits ours."""
    ledger: Path | None = None


LaunchAt = Callable[[int], EngineLaunch]
"""The launch of one engine for a given port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEngine:
    launch: EngineLaunch
    child: Child

    def replica(self) -> Replica:
        url = origin(self.launch.ready_url)
        return Replica(
            name=self.launch.name,
            url=url,
            metrics_url=self.launch.metrics_url or served_metrics_url(url),
            pid=self.child.pid,
            ledger=self.launch.ledger,
        )


def start_engines(
    stack: contextlib.ExitStack,
    launches: Sequence[LaunchAt],
    *,
    topology: str,
    ready_timeout_s: float,
    deadline: Deadline,
    log_dir: Path,
    visit: int,
) -> list[StartedEngine]:
    """All engines, ready; `stack` stops them.

    Raises TopologyError if a program is missing, a port is taken, an engine exits, or the deadline passes.
    """

    def start(index: int, port: int) -> StartedEngine:
        launch = launches[index](port)
        return _start(
            stack, launch, port, topology=topology, log_path=log_dir / f"{visit}-{topology}-{launch.name}.log"
        )

    engines = [start(index, port) for index, port in enumerate(free_ports(len(launches)))]
    attempts = [1] * len(engines)
    waiting = dict.fromkeys(range(len(engines)), "it was never asked")
    while True:
        for index in list(waiting):
            engine = engines[index]
            status = engine.child.exit_status()
            if status is not None:
                if attempts[index] == PORT_ATTEMPTS or not _lost_its_port(engine):
                    raise _did_not_start(engine, status, topology=topology)
                attempts[index] += 1
                engines[index] = start(index, free_ports(1)[0])
                continue
            not_ready = why_not_ready(engine.launch.ready_url, deadline)
            if not_ready is None:
                del waiting[index]
            else:
                waiting[index] = not_ready
        if not waiting:
            return engines
        if deadline.passed():
            index, reason = next(iter(waiting.items()))
            raise _not_ready(engines[index], reason, topology=topology, ready_timeout_s=ready_timeout_s)
        sleep_s(POLL_S)


def _lost_its_port(engine: StartedEngine) -> bool:
    """Another process was quicker to bind the port that we had found free."""
    return is_taken(host_and_port(engine.launch.ready_url)[1])


def _did_not_start(engine: StartedEngine, status: int, *, topology: str) -> TopologyError:
    return TopologyError(
        f"topology {topology}: {engine.launch.name} did not start: {exit_line(status)}; "
        f"its log is {engine.child.log_path}",
        engine.child.log_tail(),
    )


def _not_ready(engine: StartedEngine, reason: str, *, topology: str, ready_timeout_s: float) -> TopologyError:
    return TopologyError(
        f"topology {topology}: {engine.launch.name} was not ready within {ready_timeout_s:g} s (ready_timeout_s): "
        f"{reason}; its log is {engine.child.log_path}",
        engine.child.log_tail(),
    )


def _start(
    stack: contextlib.ExitStack, launch: EngineLaunch, port: int, *, topology: str, log_path: Path
) -> StartedEngine:
    host, ready_port = host_and_port(launch.ready_url)
    if ready_port != port and someone_listens(host, ready_port):
        raise TopologyError(
            f"topology {topology}: {launch.name}: port {ready_port} is taken: something already listens on "
            f"{host}:{ready_port}; stop it, or write {{port}} in the plan to be given a free port"
        )
    try:
        child = start_child(stack, launch.name, launch.command, log_path=log_path, env=launch.env)
    except OSError as error:
        raise TopologyError(
            f"topology {topology}: {launch.name}: cannot start {launch.command[0]!r}: "
            f"{error.strerror or 'no such program'}; expected a program on PATH or the path of one"
        ) from error
    return StartedEngine(launch=launch, child=child)


def why_not_ready(ready_url: str, deadline: Deadline) -> str | None:
    """None once the URL answers 200; else what it did instead, in words."""
    try:
        answer = fetch(
            ready_url, timeout_s=max(0.1, min(POLL_TIMEOUT_S, deadline.left_s())), body_bytes_max=READY_BYTES_MAX
        )
    except FetchError as error:
        return str(error)
    return None if answer.status == 200 else f"{ready_url} answered HTTP {answer.status}"


def served_metrics_url(server_url: str) -> str | None:
    """The server's /metrics if it answers there."""
    url = f"{server_url}/metrics"
    try:
        answer = fetch(url, timeout_s=POLL_TIMEOUT_S)
    except FetchError:
        return None
    return url if answer.status == 200 else None
