"""Servers that the plan gives as commands."""

import contextlib
import os
import shlex
import sys
from pathlib import Path

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.plan.model import Plan, Process, ProcessesTopology
from loadstair.topology.engines import EngineLaunch, LaunchAt
from loadstair.topology.local import bring_up_local
from loadstair.topology.running import RunningTopology


def bring_up_processes(
    stack: contextlib.ExitStack,
    topology: ProcessesTopology,
    *,
    plan: Plan,
    plan_dir: Path,
    log_dir: Path,
    visit: int,
    deadline: Deadline,
) -> RunningTopology:
    launches = [
        process_launch(
            process, f"engine{index}", plan_dir=plan_dir, where=f"topology {topology.name}: processes[{index}]"
        )
        for index, process in enumerate(topology.processes)
    ]
    return bring_up_local(
        stack, launches, topology, workload=plan.workload, log_dir=log_dir, visit=visit, deadline=deadline
    )


def process_launch(process: Process, name: str, *, plan_dir: Path, where: str) -> LaunchAt:
    """Raises TopologyError if the command line cannot be split into words, or the server could not know its port."""
    words = command_words(process, where=where)
    if "{port}" in process.ready_url and not any("{port}" in text for text in (*words, *process.env.values())):
        raise TopologyError(f"{where}: ready_url has {{port}}, but neither command nor env tells the server its port")

    def at(port: int) -> EngineLaunch:
        def fill(text: str) -> str:
            # Not str.format: engine options hold JSON, whose braces are no placeholders.
            filled = {"{port}": str(port), "{python}": sys.executable, "{plan_dir}": str(plan_dir.resolve())}
            for placeholder, value in filled.items():
                text = text.replace(placeholder, value)
            return text

        return EngineLaunch(
            name=name,
            command=tuple(fill(word) for word in words),
            ready_url=fill(process.ready_url),
            metrics_url=None if process.metrics_url is None else fill(process.metrics_url),
            env={**os.environ, **{key: fill(value) for key, value in process.env.items()}},
        )

    return at


def command_words(process: Process, *, where: str) -> tuple[str, ...]:
    if isinstance(process.command, tuple):
        words = process.command
    else:
        try:
            words = tuple(shlex.split(process.command))
        except ValueError as error:
            raise TopologyError(
                f"{where}.command: {error}; quote it as a shell would, or give a list of words"
            ) from error
    if not words:
        raise TopologyError(f"{where}.command: is empty; expected a program and its arguments")
    return words
