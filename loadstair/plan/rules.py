"""What a plan's values must satisfy together, and what this version cannot carry out.

Each rule yields problems with their path; a plan with any is refused before anything starts.
"""

import itertools
import re
from collections.abc import Iterator
from typing import assert_never

from loadstair.errors import Problem
from loadstair.plan.flags import flag_problems, formats_of, number
from loadstair.plan.matrix import longest_request_tokens, matrix_problems
from loadstair.plan.model import (
    ArrivalKind,
    ComposeTopology,
    EndpointKind,
    ExternalTopology,
    FlagValue,
    KubernetesTopology,
    Load,
    LoadMode,
    LoadShape,
    Plan,
    ProcessesTopology,
    RemoteWorkers,
    SimulatedTopology,
    Slo,
    TopologyPlan,
    load_unit,
)
from loadstair.plan.pools import is_pooled, pool_problems
from loadstair.plan.threshold import parse_threshold, unknown_segment
from loadstair.serving.catalogue import Gpu, Model, find_gpu, find_model, gpu_names, model_names
from loadstair.serving.memory import memory_budget
from loadstair.serving.steptime import expected_request_s

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
SECRET_NAME = re.compile(
    r"auth|cookie|secret|passw|credential|api[-_]?key|subscription-key|(^|[-_])token$", re.IGNORECASE
)
SECRET_OPTION = re.compile(r"(^|\s)--?(api-key|hf-token|[a-z-]*password|[a-z-]*secret)(\s|=)", re.IGNORECASE)

MAX_NUM_SEQS_DEFAULT = 256
MAX_NUM_BATCHED_TOKENS_DEFAULT = 8192
GPU_MEMORY_UTILIZATION_DEFAULT = 0.9
LITTLE_ROUNDS = 20
ROUNDING = 1e-9
EXPECTED_IN_FLIGHT_MAX = 1024.0


def rule_problems(plan: Plan) -> list[Problem]:
    problems = [
        *_not_supported(plan),
        *_remote_workers(plan),
        *_time_limits(plan.load),
        *_steps(plan),
        *_shape(plan),
        *_arrivals(plan),
        *matrix_problems(plan),
        *_names(plan),
        *_thresholds(plan),
    ]
    for index, topology in enumerate(plan.topologies):
        problems += _topology(plan, topology, f"topologies[{index}]")
    if not problems and plan.matrix is None:  # the expected request needs a plan that is right otherwise
        problems += _hold_is_long_enough(plan)
    return problems


def _not_supported(plan: Plan) -> Iterator[Problem]:
    refused = {
        "workload.endpoint": plan.workload.endpoint is EndpointKind.EMBEDDINGS and "embeddings",
        "load.abort_share": plan.load.abort_share > 0 and plan.load.abort_share,
        "variants": plan.variants is not None and "variants",
    }
    for path, value in refused.items():
        if value:
            yield Problem(path=path, message=f"{value} is not supported by this version; leave it out")


def _remote_workers(plan: Plan) -> Iterator[Problem]:
    if not isinstance(plan.workers, RemoteWorkers):
        return
    for index, topology in enumerate(plan.topologies):
        if isinstance(topology, SimulatedTopology | ProcessesTopology):
            message = (
                f"{topology.kind} servers listen on this machine's 127.0.0.1, which remote workers cannot reach: start "
                "the servers on an address that they can reach and use kind: external"
            )
            yield Problem(path=f"topologies[{index}].kind", message=message)


def _time_limits(load: Load) -> Iterator[Problem]:
    first_byte_s = load.first_byte_timeout_s
    if first_byte_s is not None and first_byte_s > load.request_timeout_s:
        yield Problem(
            path="load.first_byte_timeout_s",
            message=f"{first_byte_s:g} s is longer than the whole request may take "
            f"(load.request_timeout_s: {load.request_timeout_s:g} s)",
        )
    for longest, least in (("warmup_s_max", "warmup_s"), ("hold_s_max", "hold_s")):
        longest_s, least_s = getattr(load, longest), getattr(load, least)
        if longest_s is not None and longest_s < least_s:
            message = f"{longest_s:g} s is shorter than the least (load.{least}: {least_s:g} s)"
            yield Problem(path=f"load.{longest}", message=message)
    if load.hold_s_max is not None and load.precision is None:
        message = "bounds the hold for load.precision, which is missing: give both or neither"
        yield Problem(path="load.hold_s_max", message=message)


def _steps(plan: Plan) -> Iterator[Problem]:
    steps = plan.load.steps
    if plan.load.mode is LoadMode.CLOSED:
        for index, load in enumerate(steps):
            if load != int(load):
                yield Problem(path=f"load.steps[{index}]", message=f"users are whole numbers, not {load:g}")
    for index, (before, after) in enumerate(itertools.pairwise(steps), start=1):
        if after <= before:
            yield Problem(path=f"load.steps[{index}]", message=f"steps must rise: {after:g} comes after {before:g}")


def _shape(plan: Plan) -> Iterator[Problem]:
    load = plan.load
    for name in ("surge_s", "recovery_s"):
        if load.shape is not LoadShape.SPIKE and getattr(load, name) is not None:
            message = "belongs to a spike: set load.shape to spike, or leave it out"
            yield Problem(path=f"load.{name}", message=message)
    match load.shape:
        case LoadShape.STAIRCASE:
            return
        case LoadShape.SOAK:
            if len(load.steps) != 1:
                message = f"a soak holds one load, not {len(load.steps)}: choose one, such as the recommended load"
                yield Problem(path="load.steps", message=message)
        case LoadShape.SPIKE:
            if len(load.steps) != 2:
                message = f"a spike has two loads, the usual one and the surge, not {len(load.steps)}"
                yield Problem(path="load.steps", message=message)
            if not _limits_latency(plan.slo):
                message = (
                    "needs a limit of a latency, such as {ttft_ms_p99: 500}: a spike measures how long until it holds"
                )
                yield Problem(path="slo", message=message)
        case _:
            assert_never(load.shape)
    for name in ("refine", "precision", "hold_s_max"):
        if getattr(load, name):
            message = f"is for a staircase: a {load.shape} has its loads and times as the plan gives them; leave it out"
            yield Problem(path=f"load.{name}", message=message)


def _arrivals(plan: Plan) -> Iterator[Problem]:
    load = plan.load
    if load.mode is LoadMode.CLOSED:
        for name in ("arrivals", "burstiness", "trace", "max_in_flight"):
            if getattr(load, name) is not None:
                message = "is for an open loop: set load.mode to open, with steps in requests per second"
                yield Problem(path=f"load.{name}", message=message)
        return
    if plan.matrix is not None:
        yield Problem(path="load.mode", message="a matrix has bursts of users, not requests per second; leave it out")
    for name, kind in (("burstiness", ArrivalKind.GAMMA), ("trace", ArrivalKind.TRACE)):
        given = getattr(load, name) is not None
        if load.arrivals is kind and not given:
            yield Problem(path=f"load.{name}", message=f"is missing: load.arrivals is {kind}")
        elif given and load.arrivals is not kind:
            yield Problem(path=f"load.{name}", message=f"belongs to load.arrivals: {kind}")
    if load.max_in_flight is not None and isinstance(plan.workers, int) and load.max_in_flight < plan.workers:
        message = f"{load.max_in_flight} is less than one request for each of the {plan.workers} workers"
        yield Problem(path="load.max_in_flight", message=message)


def _limits_latency(slo: Slo | None) -> bool:
    return slo is not None and any(
        getattr(slo, name) is not None for name in Slo.model_fields if name != "error_rate_max"
    )


def _names(plan: Plan) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, topology in enumerate(plan.topologies):
        if topology.name in seen:
            yield Problem(
                path=f"topologies[{index}].name", message=f"{topology.name!r} is the name of an earlier topology"
            )
        seen.add(topology.name)


def _thresholds(plan: Plan) -> Iterator[Problem]:
    names = [topology.name for topology in plan.topologies]
    tests = [test.id for test in plan.matrix.tests] if plan.matrix is not None else []
    for index, text in enumerate(plan.thresholds):
        path = f"thresholds[{index}]"
        try:
            threshold = parse_threshold(text)
        except ValueError as error:
            yield Problem(path=path, message=str(error))
            continue
        wrong = unknown_segment(threshold, topologies=names, loads=plan.load.steps, shape=plan.load.shape, tests=tests)
        if wrong is not None:
            yield Problem(path=path, message=f"{text!r}: {wrong}")


def _topology(plan: Plan, topology: TopologyPlan, path: str) -> Iterator[Problem]:
    yield from _headers_and_secrets(topology, path)
    match topology:
        case SimulatedTopology():
            yield from _simulated(plan, topology, path)
            if is_pooled(topology.engines):
                yield from pool_problems(topology.engines, path, has_balancer=topology.balancer is not None)
            else:
                yield from _needs_balancer(len(topology.engines), topology.balancer is not None, "engines", path)
        case ProcessesTopology():
            yield from _needs_balancer(len(topology.processes), topology.balancer is not None, "processes", path)
            for index, process in enumerate(topology.processes):
                if not process.command:
                    yield Problem(path=f"{path}.processes[{index}].command", message="is empty")
        case ExternalTopology():
            pass
        case ComposeTopology() | KubernetesTopology():
            yield Problem(
                path=f"{path}.kind",
                message=f"{topology.kind} is not supported by this version: bring it up and use kind: external",
            )
        case _:
            assert_never(topology)


def _headers_and_secrets(topology: TopologyPlan, path: str) -> Iterator[Problem]:
    """A plan is copied into every run folder and report; a secret must not be."""
    for name, value in topology.headers.items():
        if not HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
            message = "is no HTTP header: the name takes letters, digits and '-', the value printable ASCII"
            yield Problem(path=f"{path}.headers.{name}", message=message)
        if SECRET_NAME.search(name):
            message = "is a secret: put it into an environment variable and give its name as api_key_env"
            yield Problem(path=f"{path}.headers.{name}", message=message)
    if isinstance(topology, ProcessesTopology):
        for index, process in enumerate(topology.processes):
            at = f"{path}.processes[{index}]"
            for name in process.env:
                if SECRET_NAME.search(name):
                    message = "is a secret: leave it out and export it, processes inherit the environment"
                    yield Problem(path=f"{at}.env.{name}", message=message)
            command = process.command if isinstance(process.command, str) else " ".join(process.command)
            if SECRET_OPTION.search(command):
                message = "holds a key: let the server read it from its environment, which it inherits"
                yield Problem(path=f"{at}.command", message=message)


def _needs_balancer(count: int, has_balancer: bool, what: str, path: str) -> Iterator[Problem]:
    if count > 1 and not has_balancer:
        yield Problem(path=f"{path}.balancer", message=f"is missing: {count} {what} need one, such as {{kind: nginx}}")


def _simulated(plan: Plan, topology: SimulatedTopology, path: str) -> Iterator[Problem]:
    model, problem = _modelled(plan.workload.model)
    gpu = find_gpu(topology.gpus.type)
    if problem is not None:
        yield problem
    if gpu is None:
        yield Problem(
            path=f"{path}.gpus.type",
            message=f"{topology.gpus.type!r} is not in the catalogue: {', '.join(gpu_names())}",
        )
    yield from _gpu_room(topology, path)
    for index, engine in enumerate(topology.engines):
        at = f"{path}.engines[{index}]"
        yield from flag_problems(engine.flags, at)
        if model is not None and model.heads % engine.tp:
            message = f"{engine.tp} does not divide the model's {model.heads} attention heads"
            yield Problem(path=f"{at}.tp", message=message)
        elif model is not None and gpu is not None:
            yield from _fits(plan, model, gpu, engine.tp, engine.flags, at)


def _modelled(name: str) -> tuple[Model, None] | tuple[None, Problem]:
    """The model that a simulated engine can compute with, or why there is none."""
    try:
        model = find_model(name)
    except ValueError as error:
        return None, Problem(path="workload.model", message=str(error))
    if model is not None:
        return model, None
    known = ", ".join(model_names())
    message = f"{name!r} is not in the catalogue, which a simulated engine needs; it has {known}"
    return None, Problem(path="workload.model", message=f"{message}, or give the path of its config.json")


def _gpu_room(topology: SimulatedTopology, path: str) -> Iterator[Problem]:
    """Engines may share GPUs: each takes its share of their time, and of their memory."""
    count = topology.gpus.count
    used = sum(engine.tp * number(engine.flags, "gpu_share", 1.0) for engine in topology.engines)
    if used > count + ROUNDING:
        yield Problem(path=f"{path}.engines", message=f"use {used:g} GPUs, but gpus.count is {count}")
    memory = sum(
        engine.tp * number(engine.flags, "gpu_memory_utilization", GPU_MEMORY_UTILIZATION_DEFAULT)
        for engine in topology.engines
    )
    if used <= count + ROUNDING and memory > count + ROUNDING:
        message = (
            f"share GPUs and want the memory of {memory:g}, but gpus.count is {count}: "
            "give each its part of it as gpu_memory_utilization"
        )
        yield Problem(path=f"{path}.engines", message=message)


def _fits(plan: Plan, model: Model, gpu: Gpu, tp: int, flags: dict[str, FlagValue], at: str) -> Iterator[Problem]:
    if any(flag_problems(flags, at)):
        return
    formats = formats_of(flags, stored_as=model.stored_as)
    room = memory_budget(
        model,
        gpu,
        tp,
        formats=formats,
        gpu_memory_utilization=number(flags, "gpu_memory_utilization", GPU_MEMORY_UTILIZATION_DEFAULT),
        max_num_batched_tokens=int(number(flags, "max_num_batched_tokens", MAX_NUM_BATCHED_TOKENS_DEFAULT)),
        max_num_seqs=int(number(flags, "max_num_seqs", MAX_NUM_SEQS_DEFAULT)),
    ).kv_tokens
    needed = plan.workload.input_tokens.mean + plan.workload.output_tokens.mean
    if plan.matrix is not None:
        needed = longest_request_tokens(plan.matrix)
    if room < needed:
        yield Problem(
            path=f"{at}.tp",
            message=(
                f"{model.name} in {formats.weights.upper()} at tp {tp} leaves {room} tokens of KV cache on {gpu.name}; "
                f"one request needs {needed:g}"
            ),
        )


def _hold_is_long_enough(plan: Plan) -> Iterator[Problem]:
    """Nothing can start and end in a hold shorter than one request; known beforehand only for simulated engines."""
    # A surge may be shorter: what it needs to show begins in it and ends after it.
    # A rate that is more than the server carries makes requests as long as the hold: that is what it shows.
    lowest = plan.load.shape is LoadShape.SPIKE or plan.load.mode is LoadMode.OPEN
    load = plan.load.steps[0 if lowest else -1]
    for topology in plan.topologies:
        expected_s = expected_e2e_s(plan, topology, load)
        if expected_s is not None and plan.load.hold_s < expected_s:
            yield Problem(
                path="load.hold_s",
                message=(
                    f"{plan.load.hold_s:g} s is shorter than one expected request ({expected_s:.1f} s, {topology.name} "
                    f"at {load:g} {load_unit(plan.load.mode)}): nothing could start and end in it"
                ),
            )
            return


def expected_e2e_s(plan: Plan, topology: TopologyPlan, load: float) -> float | None:
    """End-to-end time of one request by the step-time model; None where the engine is not simulated. Of an open loop
    as many are under way as come in that time (Little's law), at most so many that the next step is overload."""
    if plan.load.mode is LoadMode.CLOSED:
        return _expected_e2e_s(plan, topology, load)
    users = 1.0
    for _ in range(LITTLE_ROUNDS):
        expected_s = _expected_e2e_s(plan, topology, users)
        if expected_s is None:
            return None
        users = min(max(1.0, load * expected_s), EXPECTED_IN_FLIGHT_MAX)
    return _expected_e2e_s(plan, topology, users)


def _expected_e2e_s(plan: Plan, topology: TopologyPlan, users: float) -> float | None:
    if not isinstance(topology, SimulatedTopology):
        return None
    model, _ = _modelled(plan.workload.model)
    gpu = find_gpu(topology.gpus.type)
    if model is None or gpu is None:
        return None
    first = topology.engines[0]
    alone_s = expected_request_s(
        model,
        gpu,
        first.tp,
        topology.gpus.link or gpu.link,
        engines=len(topology.engines),
        concurrent=users,
        input_tokens=plan.workload.input_tokens.mean,
        output_tokens=plan.workload.output_tokens.mean,
        max_num_seqs=int(number(first.flags, "max_num_seqs", MAX_NUM_SEQS_DEFAULT)),
        formats=formats_of(first.flags, stored_as=model.stored_as),
    )
    return alone_s / number(first.flags, "speed", 1.0) / number(first.flags, "gpu_share", 1.0)
