"""What a plan would do, without doing it: `check PLAN`, and with `--live` one request to each topology."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import assert_never

from loadstair.plan.flags import KV_ROLE
from loadstair.plan.model import (
    ArrivalKind,
    Balancer,
    ComposeTopology,
    Engine,
    ExternalTopology,
    KubernetesTopology,
    Lengths,
    Load,
    Matrix,
    Plan,
    ProcessesTopology,
    RemoteWorkers,
    SimulatedTopology,
    TopologyPlan,
    load_unit,
)
from loadstair.plan.pools import DECODE, PREFILL, is_pooled
from loadstair.plan.rules import expected_e2e_s
from loadstair.plan.staircase import expected_duration_s, visits
from loadstair.plan.trace import arrivals_of
from loadstair.topology.bring_up import bring_up
from loadstair.topology.external import waiting_s
from loadstair.topology.missing import missing_here


def preview(plan: Plan, plan_dir: Path) -> Iterator[str]:
    workload, load = plan.workload, plan.load
    yield f"plan {plan.name}: {workload.endpoint} on {workload.model}"
    if plan.matrix is not None:
        yield from _tests(plan.matrix)
    else:
        yield f"  input tokens {_lengths(workload.input_tokens)}, output tokens {_lengths(workload.output_tokens)}"
        yield f"  steps ({load_unit(load.mode)}): {', '.join(f'{step:g}' for step in load.steps)}"
        yield f"  each: warm-up {load.warmup_s:g} s, hold {load.hold_s:g} s, then until its requests have ended"
    yield from _arrivals(load, plan_dir)
    for topology in plan.topologies:
        yield f"topology {topology.name}: {_described(topology)}"
    if isinstance(plan.workers, RemoteWorkers):
        remote = plan.workers
        yield f"workers: {remote.expect} of other hosts, at {remote.bind}:{remote.port}, for up to {remote.wait_s:g} s"
    yield from _after_losses(load)
    order = " ".join(visit.topology.name for visit in visits(plan))
    yield f"visits: {order}"
    expected_s = expected_duration_s(plan, partial(expected_e2e_s, plan))
    unknown = any(expected_e2e_s(plan, topology, load.steps[-1]) is None for topology in plan.topologies)
    at_least = "at least " if unknown else "about "
    yield f"duration: {at_least}{expected_s / 60:.1f} min"
    if unknown and plan.matrix is None:
        yield f"note: load.hold_s ({load.hold_s:g} s) should be longer than one request, which is not known beforehand"
    for line in missing_here(plan, plan_dir):
        yield f"missing here: {line}"


def live_check(plan: Plan, plan_dir: Path) -> Iterator[str]:
    """Brings each topology up and down; it takes requests when its line comes. Raises TopologyError (exit 3)."""
    with tempfile.TemporaryDirectory(prefix="loadstair-check-") as log_dir:
        for index, topology in enumerate(plan.topologies):
            wait_s = waiting_s(topology)
            if wait_s is not None:
                yield f"{topology.name}: has {wait_s:g} s from now to answer"
            with bring_up(topology, plan=plan, plan_dir=plan_dir, log_dir=Path(log_dir), visit=index) as running:
                yield f"live: {topology.name} answers at {running.endpoint.url}"


def _arrivals(load: Load, plan_dir: Path) -> Iterator[str]:
    """Raises UsageError for a trace that cannot be used."""
    arrivals = arrivals_of(load, plan_dir)
    if arrivals is None:
        return
    limit = "" if load.max_in_flight is None else f", at most {load.max_in_flight} under way"
    if arrivals.trace is None:
        burstiness = f" with burstiness {arrivals.burstiness:g}" if arrivals.kind is ArrivalKind.GAMMA else ""
        yield f"  arrivals: {arrivals.kind}{burstiness}{limit}"
        return
    trace = arrivals.trace
    columns = {"input": trace.input_tokens, "output": trace.output_tokens}
    lengths = " and ".join(f"{fmean(column):.0f} {name} tokens" for name, column in columns.items() if column)
    yield (
        f"  arrivals: {load.trace}, {len(trace.offsets_s)} requests over {trace.period_s:.0f} s: "
        f"{trace.rate:.3g} requests/s at its own pace{', on average ' + lengths if lengths else ''}{limit}"
    )


def _after_losses(load: Load) -> Iterator[str]:
    """What does not go without saying."""
    if load.on_worker_lost == "replace":
        yield "a lost worker: all begin anew, and its step is taken again"
    if load.on_server_lost == "next":
        yield "a lost topology: the run goes on with the next visit"


def _tests(matrix: Matrix) -> Iterator[str]:
    yield (
        f"  {matrix.warmup_requests} warm-up requests, then for each pair of lengths a baseline of "
        f"{matrix.baseline_requests} single requests"
    )
    for test in matrix.tests:
        users = "1 user" if test.users == 1 else f"{test.users} users"
        yield f"  test {test.id}: {users}, {_lengths(test.input_tokens)} in / {_lengths(test.output_tokens)} out"
    together = "at once" if matrix.growth_s == 0 else f"within {matrix.growth_s:g} s"
    runs = "1 run" if matrix.runs == 1 else f"{matrix.runs} runs"
    yield (
        f"  each: {runs} of {matrix.requests_per_user} request(s) a user, begun {together}; "
        f"{matrix.cooldown_s:g} s idle between two tests"
    )


def _lengths(lengths: Lengths) -> str:
    return f"{lengths.mean:g}" if lengths.cv == 0 else f"{lengths.mean:g} (cv {lengths.cv:g})"


def _described(topology: TopologyPlan) -> str:
    match topology:
        case SimulatedTopology():
            gpus = f"{topology.gpus.count} × {topology.gpus.type}"
            only = " (to be forecast, not run)" if is_pooled(topology.engines) else ""
            return f"simulated, {_engines(topology.engines)} on {gpus}{_behind(topology.balancer)}{only}"
        case ProcessesTopology():
            return f"{len(topology.processes)} process(es){_behind(topology.balancer)}"
        case ExternalTopology():
            return f"external, {topology.url}"
        case ComposeTopology() | KubernetesTopology():
            return topology.kind
        case _:
            assert_never(topology)


def _engines(engines: tuple[Engine, ...]) -> str:
    does = {PREFILL: " prefill", DECODE: " decode"}
    return ", ".join(f"TP={engine.tp}{does.get(str(engine.flags.get(KV_ROLE)), '')}" for engine in engines)


def _behind(balancer: Balancer | None) -> str:
    if balancer is None:
        return ""
    return f", behind {balancer.kind} ({balancer.policy})"
