"""A step against what its GPUs can do at all: data-sheet bandwidth and arithmetic, nothing lost. Pure.

Only where model and GPU are in the catalogue. What the weights are stored in is known for a simulated engine (its
flags, else BF16), and where the engines' flags say it (`quantization`, `dtype`); elsewhere BF16 is taken, and more than
that is only a warning: a server may hold a quantised model under the model's name. So it is with speculative decoding,
which yields several tokens a step, and with a simulated engine that was told to be faster than its GPU.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.measure import VisitStep
from loadstair.plan.model import Engine, FlagValue, Plan, SimulatedTopology, TopologyPlan, Workload
from loadstair.serving.catalogue import find_gpu, listed_model
from loadstair.serving.formats import FOUR_BITS
from loadstair.serving.roofline import Engines, Stored, output_tokens_per_s_ceiling, stream_tokens_per_s_ceiling

TOLERANCE = 0.03
"""Above the ceiling: what data sheets are rounded by. (Memory clocks differ by no more between cards of a type.)"""
ABOVE_CEILING = "ceiling.throughput"
ABOVE_STREAM_CEILING = "ceiling.stream"
SPECULATIVE = ("speculative_config", "speculative_model", "num_speculative_tokens", "speculative_algorithm")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCeiling:
    """Of one topology at the requests under way and the lengths that a step had."""

    output_tokens_per_s: float
    stream_tokens_per_s: float
    """Of a single request, after its first token."""
    binding: bool
    """Whether it is known how the weights are stored, and that a step yields one token."""
    assumed: str
    """What it was computed from, in words."""


def step_ceiling(step: VisitStep, topology: TopologyPlan, workload: Workload) -> StepCeiling | None:
    """None where model or GPU are not known, or nothing was under way."""
    engines = _engines(topology, workload.model)
    if engines is None or step.in_flight_mean <= 0:
        return None
    inputs = step.input_tokens_mean or step.input_tokens_asked_mean or workload.input_tokens.mean
    outputs = step.output_tokens_mean or workload.output_tokens.mean
    shared = workload.prefix.share * workload.prefix.tokens
    # Kernels may read the keys and values of a shared prefix once for all.
    context_tokens = max(0.0, inputs - shared)
    return StepCeiling(
        output_tokens_per_s=output_tokens_per_s_ceiling(
            engines,
            concurrent=step.in_flight_mean,
            context_tokens=context_tokens + outputs / 2,
            output_tokens=outputs,
            computed_input_tokens=_computed(step, workload, context_tokens),
        ),
        stream_tokens_per_s=stream_tokens_per_s_ceiling(engines, context_tokens=context_tokens),
        binding=_is_known(topology),
        assumed=f"{engines.count} × tp {engines.tp} on {engines.gpu.name}, {8 * engines.stored.weight:g}-bit weights",
    )


def _computed(step: VisitStep, workload: Workload, unshared_tokens: float) -> float:
    """Prompt tokens of a request that must have been computed inside the hold; 0 where they may not have been: without
    a salt they may be cached, and in a hold shorter than two requests many answers come of prompts from before it."""
    e2e_ms = step.latency_ms["e2e"].values
    if not workload.salt or len(e2e_ms) == 0 or step.window.duration_s * 1e3 < 2 * float(np.median(e2e_ms)):
        return 0.0
    share = step.cached.responses_share or 0.0
    return unshared_tokens * (1 - share)


def _engines(topology: TopologyPlan, model_name: str) -> Engines | None:
    gpus = topology.gpus
    model, gpu = listed_model(model_name), None if gpus is None else find_gpu(gpus.type)
    if model is None or gpus is None or gpu is None:
        return None
    planned = topology.engines
    stored = _stored([engine.flags for engine in planned])
    sizes = {engine.tp for engine in planned}
    if len(sizes) == 1:
        return Engines(model=model, gpu=gpu, tp=sizes.pop(), count=len(planned), stored=stored)
    # One engine over all GPUs reads the weights fastest: it bounds whatever arrangement there is.
    total = sum(engine.tp for engine in planned) or gpus.count
    return Engines(model=model, gpu=gpu, tp=total, count=1, stored=stored)


def _stored(flags: list[Mapping[str, FlagValue]]) -> Stored:
    """The smallest that any engine's flags say."""
    return Stored(
        weight=min((_weight_bytes(one) for one in flags), default=2.0),
        kv=min((_kv_bytes(one) for one in flags), default=2.0),
    )


def _weight_bytes(flags: Mapping[str, FlagValue]) -> float:
    said = f"{flags.get('quantization', '')} {flags.get('dtype', '')}".lower()
    if any(name in said for name in FOUR_BITS):
        return 0.5
    return 1.0 if "8" in said else 2.0


def _kv_bytes(flags: Mapping[str, FlagValue]) -> float:
    said = str(flags.get("kv_cache_dtype", "")).lower()
    if any(name in said for name in FOUR_BITS):
        return 0.5
    return 1.0 if "8" in said else 2.0


def _is_known(topology: TopologyPlan) -> bool:
    engines = topology.engines
    if isinstance(topology, SimulatedTopology):
        return not any("num_speculative_tokens" in one.flags or _faster_than_its_gpu(one) for one in engines)
    return bool(engines) and all(
        ("quantization" in one.flags or "dtype" in one.flags) and not any(name in one.flags for name in SPECULATIVE)
        for one in engines
    )


def _faster_than_its_gpu(engine: Engine) -> bool:
    """A simulated engine can be told to be."""
    speed = engine.flags.get("speed", 1.0)
    return isinstance(speed, int | float) and speed > 1


def judge_plausible(step: VisitStep, plan: Plan) -> Iterator[Finding]:
    topology = next((one for one in plan.topologies if one.name == step.visit.topology), None)
    ceiling = None if topology is None else step_ceiling(step, topology, plan.workload)
    if ceiling is None:
        return
    throughput = step.tokens.mean
    if throughput > (1 + TOLERANCE) * ceiling.output_tokens_per_s:
        yield _above(
            ABOVE_CEILING,
            f"{throughput:,.0f} output tokens/s were measured, {ceiling.output_tokens_per_s:,.0f} are possible at "
            f"{step.in_flight_mean:.3g} requests under way",
            ceiling,
            binding=ceiling.binding,
        )
    fastest = _stream_tokens_per_s(step)
    if fastest is not None and fastest > (1 + TOLERANCE) * ceiling.stream_tokens_per_s:
        yield _above(
            ABOVE_STREAM_CEILING,
            f"half of the streams ran at {fastest:,.0f} tokens/s or more, {ceiling.stream_tokens_per_s:,.0f} are "
            "possible for one",
            ceiling,
            # Whoever holds tokens back and hands them on together makes a stream look fast, and the throughput is true.
            binding=False,
        )


def _stream_tokens_per_s(step: VisitStep) -> float | None:
    tpot_ms = step.latency_ms["tpot"].values
    if len(tpot_ms) == 0:
        return None
    median = float(np.median(tpot_ms))
    return 1e3 / median if median > 0 else math.inf


def _above(id_: str, what: str, ceiling: StepCeiling, *, binding: bool) -> Finding:
    message = f"above the physical ceiling: {what} ({ceiling.assumed})"
    if binding:
        return Finding.invalid(
            id_, f"{message}: the model, the GPUs, the token counts or the times are not what they seem"
        )
    if ceiling.binding:
        return Finding.warning(id_, f"{message}: tokens were held back and came together; look at proxy buffering")
    return Finding.warning(
        id_,
        f"{message}; if the weights are quantised or drafts are used, say so in engines[].flags (quantization, dtype, "
        "speculative_config), else the model, the GPUs or the counts are not what they seem",
    )
