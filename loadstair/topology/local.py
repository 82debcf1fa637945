"""What the kinds that run on this machine share: engines, and nginx in front where the plan asks for it."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.plan.model import ProcessesTopology, SimulatedTopology, Workload
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.engines import LaunchAt, start_engines
from loadstair.topology.keepalive import keeps_connections
from loadstair.topology.nginx import find_nginx, start_nginx
from loadstair.topology.running import RunningTopology


def bring_up_local(
    stack: contextlib.ExitStack,
    launches: Sequence[LaunchAt],
    topology: SimulatedTopology | ProcessesTopology,
    *,
    workload: Workload,
    log_dir: Path,
    visit: int,
    deadline: Deadline,
) -> RunningTopology:
    """Engines and balancer, answering; `stack` stops them, the balancer first."""
    if len(launches) > 1 and topology.balancer is None:
        raise TopologyError(
            f"topology {topology.name}: {len(launches)} engines need a balancer, such as {{kind: nginx}}"
        )
    # Looked for first: minutes of loading weights would be lost on a missing package.
    nginx = find_nginx() if topology.balancer is not None else None
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TopologyError(f"{log_dir}: {error.strerror}; expected a folder that can be written") from error
    engines = start_engines(
        stack,
        launches,
        topology=topology.name,
        ready_timeout_s=topology.ready_timeout_s,
        deadline=deadline,
        log_dir=log_dir,
        visit=visit,
    )
    replicas = tuple(engine.replica() for engine in engines)
    upstreams = {urlsplit(replica.url).netloc: replica.name for replica in replicas}
    direct = Endpoint(
        url=f"{replicas[0].url}/v1",
        replicas=replicas,
        headers=topology.headers,
        api_key_env=topology.api_key_env,
        upstreams=upstreams,
        fingerprint={
            "kind": topology.kind,
            "engine_count": len(engines),
            "engines": [engine.model_dump() for engine in topology.engines],
            "gpus": None if topology.gpus is None else topology.gpus.model_dump(),
            "balancer": None,
        },
    )
    children = tuple(engine.child for engine in engines)
    if topology.balancer is None or nginx is None:
        return RunningTopology(name=topology.name, endpoint=direct, children=children)
    # Our own engine is known to keep its connections.
    keep_alive = isinstance(topology, SimulatedTopology) or keeps_connections(direct, workload, deadline=deadline)
    balancer = start_nginx(
        stack,
        policy=topology.balancer.policy,
        upstreams=list(upstreams),
        keep_alive=keep_alive,
        prefix=log_dir / f"{visit}-{topology.name}-nginx",
        topology=topology.name,
        deadline=deadline,
        nginx=nginx,
    )
    balancer_facts = {**topology.balancer.model_dump(), "version": balancer.version, "upstream_keep_alive": keep_alive}
    endpoint = replace(
        direct,
        url=f"{balancer.url}/v1",
        balancer_status_url=balancer.status_url,
        balancer_pid=balancer.child.pid,
        fingerprint={**direct.fingerprint, "balancer": balancer_facts},
    )
    return RunningTopology(name=topology.name, endpoint=endpoint, children=(*children, balancer.child))
