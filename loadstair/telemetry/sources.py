"""Which sources a running topology and the load's processes have."""

from collections.abc import Mapping

from loadstair.telemetry.gpu import local_gpus
from loadstair.telemetry.host import HostCpu, HostMemory, ProcessCpu, ProcessMemory
from loadstair.telemetry.nginx import StatusPage
from loadstair.telemetry.other_page import OtherPage
from loadstair.telemetry.prometheus import MetricsPage
from loadstair.telemetry.source import Source
from loadstair.telemetry.workers_elsewhere import AskWorkers, WorkersElsewhere
from loadstair.topology.endpoint import Endpoint

SERVES_FROM_HERE = frozenset({"processes"})
"""Kinds whose GPUs are this machine's: a simulated engine uses none, an external one is elsewhere for all we know."""


def sources_for(
    endpoint: Endpoint, topology: str, load_pids: Mapping[str, int], ask_workers: AskWorkers | None = None
) -> list[Source]:
    """`load_pids`: process ids of the load's processes on this machine, by name. `ask_workers`: where its workers are
    on other hosts."""
    sources: list[Source] = [HostCpu()]
    if any(replica.pid is not None for replica in endpoint.replicas):
        sources.append(HostMemory())
    for replica in endpoint.replicas:
        name = f"{topology}/{replica.name}"
        if replica.metrics_url is not None:
            sources.append(MetricsPage(name=name, endpoint=endpoint, url=replica.metrics_url))
        if replica.pid is not None:
            sources.append(ProcessCpu(name, replica.pid, series="process.cpu_percent"))
            sources.append(ProcessMemory(name=name, pid=replica.pid, series="process.memory_bytes"))
    if endpoint.balancer_status_url is not None:
        sources.append(StatusPage(name=f"{topology}/balancer", url=endpoint.balancer_status_url))
    if endpoint.balancer_pid is not None:
        sources.append(ProcessCpu(f"{topology}/balancer", endpoint.balancer_pid, series="process.cpu_percent"))
    for index, url in enumerate(endpoint.other_pages):
        sources.append(OtherPage(name=f"{topology}/page{index}", endpoint=endpoint, url=url))
    for name, pid in load_pids.items():
        sources.append(ProcessCpu(f"generator/{name}", pid, series="generator.cpu_percent"))
        sources.append(ProcessMemory(name=f"generator/{name}", pid=pid, series="generator.memory_bytes"))
    if ask_workers is not None:
        sources.append(WorkersElsewhere(ask_workers))
    if endpoint.fingerprint.get("kind") in SERVES_FROM_HERE:
        sources += local_gpus(topology)
    return sources
