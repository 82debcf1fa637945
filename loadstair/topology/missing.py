"""What this machine lacks to bring a plan's topologies up. Looks only: starts nothing, asks nobody."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from loadstair.errors import TopologyError
from loadstair.plan.model import ExternalTopology, Plan, ProcessesTopology, SimulatedTopology, TopologyPlan
from loadstair.topology.access import missing_key_line
from loadstair.topology.nginx import MISSING_LINE, nginx_path
from loadstair.topology.processes import process_launch

ANY_PORT = 1


def missing_here(
    plan: Plan, plan_dir: Path, *, environ: Mapping[str, str] = os.environ, nginx_search: str | None = None
) -> list[str]:
    """One line for each missing program, variable and file.

    `nginx_search` is a list of directories like PATH; None means the usual places.
    """
    lines: list[str] = []
    for topology in plan.topologies:
        where = f"topology {topology.name}"
        if topology.api_key_env is not None and not environ.get(topology.api_key_env):
            lines.append(f"{where}: {missing_key_line(topology.api_key_env)}")
        lines += [f"{where}: {line}" for line in _missing_for(topology, plan_dir, nginx_search)]
    return lines


def _missing_for(topology: TopologyPlan, plan_dir: Path, nginx_search: str | None) -> list[str]:
    lines: list[str] = []
    if (
        isinstance(topology, SimulatedTopology | ProcessesTopology)
        and topology.balancer
        and not nginx_path(nginx_search)
    ):
        lines.append(MISSING_LINE)
    if isinstance(topology, ProcessesTopology):
        for index, process in enumerate(topology.processes):
            where = f"processes[{index}]"
            try:
                program = process_launch(process, f"engine{index}", plan_dir=plan_dir, where=where)(ANY_PORT).command[0]
            except TopologyError as error:
                lines.append(str(error))
                continue
            if shutil.which(program) is None:
                lines.append(f"{where}.command: no program {program!r} on PATH")
    if isinstance(topology, ExternalTopology) and topology.tls.ca and not (plan_dir / topology.tls.ca).is_file():
        lines.append(f"tls.ca: {topology.tls.ca} is not a file in {plan_dir}")
    return lines
