"""From a plan's topology to one that runs, and back to a machine where nothing of it is left."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import assert_never

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.plan.model import (
    ComposeTopology,
    ExternalTopology,
    KubernetesTopology,
    Plan,
    ProcessesTopology,
    SimulatedTopology,
    TopologyPlan,
)
from loadstair.topology.access import missing_key_line
from loadstair.topology.external import external_topology, wait_until_there, waiting_s
from loadstair.topology.preflight import preflight
from loadstair.topology.processes import bring_up_processes
from loadstair.topology.running import RunningTopology
from loadstair.topology.simulated import bring_up_simulated


@contextlib.contextmanager
def bring_up(
    topology: TopologyPlan, *, plan: Plan, plan_dir: Path, log_dir: Path, visit: int
) -> Iterator[RunningTopology]:
    """A topology that is ready and has answered one small request; leaving the block stops what was started.

    One deadline (`ready_timeout_s`) spans all waits. Engines are named engine0, engine1 …; their logs and ledgers are
    `<visit>-<topology>-<engine>.*` in `log_dir`. The block may stay open for several visits (`restart: never`).
    Call it from the main thread: the kernel ends our children with the *thread* that started them.

    Raises TopologyError, one line and the end of the log, if it cannot be brought up.
    """
    if topology.api_key_env is not None and not os.environ.get(topology.api_key_env):
        raise TopologyError(f"topology {topology.name}: {missing_key_line(topology.api_key_env)}")
    deadline = Deadline.after_s(topology.ready_timeout_s)
    with contextlib.ExitStack() as stack:
        running = _start(stack, topology, plan=plan, plan_dir=plan_dir, log_dir=log_dir, visit=visit, deadline=deadline)
        try:
            seen = preflight(
                running.endpoint, plan.workload, request_id=f"preflight-{visit}-{topology.name}", deadline=deadline
            )
        except TopologyError as error:
            running.check()  # a dead engine explains more than what its endpoint then answers
            log_tail = running.children[0].log_tail() if running.children else None
            raise TopologyError(f"topology {topology.name}: {error}", log_tail) from error
        fingerprint = {**running.endpoint.fingerprint, "seen": asdict(seen)}
        yield replace(running, endpoint=replace(running.endpoint, fingerprint=fingerprint))


def _start(
    stack: contextlib.ExitStack,
    topology: TopologyPlan,
    *,
    plan: Plan,
    plan_dir: Path,
    log_dir: Path,
    visit: int,
    deadline: Deadline,
) -> RunningTopology:
    match topology:
        case SimulatedTopology():
            return bring_up_simulated(stack, topology, plan=plan, log_dir=log_dir, visit=visit, deadline=deadline)
        case ProcessesTopology():
            return bring_up_processes(
                stack, topology, plan=plan, plan_dir=plan_dir, log_dir=log_dir, visit=visit, deadline=deadline
            )
        case ExternalTopology():
            running = external_topology(topology, plan_dir=plan_dir)
            if waiting_s(topology) is not None:
                wait_until_there(running.endpoint, deadline)
            return running
        case ComposeTopology() | KubernetesTopology():
            raise TopologyError(
                f"topology {topology.name}: kind {topology.kind} is not supported by this version; "
                "start it yourself and use kind: external"
            )
        case _:
            assert_never(topology)
