"""Simulated engines: `python -m loadstair.simserver`, one process each."""

import contextlib
import sys
from pathlib import Path

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.plan.flags import SIMULATED_FLAGS, option_words
from loadstair.plan.model import Engine, Plan, SimulatedTopology
from loadstair.plan.pools import SERVED_BY_NONE, is_pooled
from loadstair.topology.engines import EngineLaunch, LaunchAt
from loadstair.topology.local import bring_up_local
from loadstair.topology.ports import LOOPBACK
from loadstair.topology.running import RunningTopology


def bring_up_simulated(
    stack: contextlib.ExitStack,
    topology: SimulatedTopology,
    *,
    plan: Plan,
    log_dir: Path,
    visit: int,
    deadline: Deadline,
) -> RunningTopology:
    if is_pooled(topology.engines):
        raise TopologyError(f"topology {topology.name}: {SERVED_BY_NONE}")
    launches = [
        _launch(topology, engine, index, plan=plan, log_dir=log_dir, visit=visit)
        for index, engine in enumerate(topology.engines)
    ]
    return bring_up_local(
        stack, launches, topology, workload=plan.workload, log_dir=log_dir, visit=visit, deadline=deadline
    )


def _launch(
    topology: SimulatedTopology, engine: Engine, index: int, *, plan: Plan, log_dir: Path, visit: int
) -> LaunchAt:
    name = f"engine{index}"
    ledger = log_dir / f"{visit}-{topology.name}-{name}.ledger.jsonl"
    options = {
        "--host": LOOPBACK,
        "--model": plan.workload.model,
        "--gpu": topology.gpus.type,
        "--tp": str(engine.tp),
        "--ledger": str(ledger),
        # Engines of one topology, and visits, must not repeat each other's chance.
        "--seed": str((plan.seed + 1009 * visit + index) % 2**32),
    }
    if topology.gpus.link is not None:
        options["--link"] = topology.gpus.link
    flags = flag_options(engine, where=f"topology {topology.name}: engines[{index}].flags")

    def at(port: int) -> EngineLaunch:
        origin = f"http://{LOOPBACK}:{port}"
        words = [word for option in options.items() for word in option]
        return EngineLaunch(
            name=name,
            command=(sys.executable, "-m", "loadstair.simserver", "--port", str(port), *words, *flags),
            ready_url=f"{origin}/health",
            metrics_url=f"{origin}/metrics",
            ledger=ledger,
        )

    return at


def flag_options(engine: Engine, *, where: str) -> tuple[str, ...]:
    """Command-line words for an engine's flags: `max_num_seqs: 8` becomes `--max-num-seqs 8`, a switch that is false
    `--no-enable-prefix-caching`.

    Raises TopologyError for a flag that the simulated engine does not have.
    """
    for flag in engine.flags:
        if flag not in SIMULATED_FLAGS:
            raise TopologyError(
                f"{where}.{flag}: a simulated engine has no such flag; it has {', '.join(SIMULATED_FLAGS)}"
            )
    return option_words(engine.flags)
