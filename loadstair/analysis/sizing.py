"""What the GPUs of a topology hold, by the plan alone: weights, and room for how many of its requests. Pure.

Only where model and GPU are in the catalogue and the plan says how the engines are split. What it does not say of an
engine is taken to be as in a simulated one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loadstair.analysis.comparison.settings import engine_settings
from loadstair.plan.matrix import longest_request_tokens
from loadstair.plan.model import Plan, TopologyPlan
from loadstair.plan.rules import (
    GPU_MEMORY_UTILIZATION_DEFAULT,
    MAX_NUM_BATCHED_TOKENS_DEFAULT,
    MAX_NUM_SEQS_DEFAULT,
)
from loadstair.serving.catalogue import Gpu, Model, find_gpu, listed_model
from loadstair.serving.formats import Formats, asked_formats
from loadstair.serving.memory import MemoryBudget, memory_budget, sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Of engines that are alike."""

    tp: int
    engines: int
    budget: MemoryBudget
    context_tokens: int
    """Prompt and answer of the plan's mean request; of a matrix, of its longest one."""
    sequences: int
    """Such requests that one engine holds at once."""


def topology_memory(topology: TopologyPlan, plan: Plan) -> tuple[EngineMemory, ...]:
    """Empty where it is not known."""
    gpu = None if topology.gpus is None else find_gpu(topology.gpus.type)
    model = listed_model(plan.workload.model)
    if gpu is None or model is None:
        return ()
    try:
        return tuple(_of_alike(topology, plan, model, gpu))
    except ValueError:  # a format, or a number, that the model of the memory does not know
        return ()


def _of_alike(topology: TopologyPlan, plan: Plan, model: Model, gpu: Gpu) -> Iterator[EngineMemory]:
    settings = engine_settings(topology)
    alike = Counter(
        (engine.tp, tuple(sorted(one.flags.items())))
        for engine, one in zip(topology.engines, settings, strict=False)  # of processes there may be more
    )
    context_tokens = _context_tokens(plan)
    for (tp, flags), engines in alike.items():
        budget, formats = _budget(model, gpu, tp, dict(flags))
        held = sequences(model, budget, context_tokens, tp, formats)
        yield EngineMemory(tp=tp, engines=engines, budget=budget, context_tokens=context_tokens, sequences=held)


def _context_tokens(plan: Plan) -> int:
    if plan.matrix is not None:
        return round(longest_request_tokens(plan.matrix))
    return round(plan.workload.input_tokens.mean + plan.workload.output_tokens.mean)


def _budget(model: Model, gpu: Gpu, tp: int, flags: Mapping[str, str]) -> tuple[MemoryBudget, Formats]:
    formats = asked_formats(flags.get("quantization"), flags.get("kv_cache_dtype"), stored_as=model.stored_as)
    budget = memory_budget(
        model,
        gpu,
        tp,
        formats=formats,
        gpu_memory_utilization=float(flags.get("gpu_memory_utilization", GPU_MEMORY_UTILIZATION_DEFAULT)),
        max_num_batched_tokens=int(flags.get("max_num_batched_tokens", MAX_NUM_BATCHED_TOKENS_DEFAULT)),
        max_num_seqs=int(flags.get("max_num_seqs", MAX_NUM_SEQS_DEFAULT)),
    )
    return budget, formats


def memory_values(groups: tuple[EngineMemory, ...]) -> list[dict[str, object]]:
    """Bytes are of each GPU."""
    return [
        {
            "tp": one.tp,
            "engines": one.engines,
            "weights_bytes": one.budget.weights_bytes,
            "activations_bytes": one.budget.activations_bytes,
            "overhead_bytes": one.budget.collectives_bytes + one.budget.other_bytes,
            "kv_room_bytes": one.budget.kv_bytes,
            "budget_bytes": one.budget.budget_bytes,
            "context_tokens": one.context_tokens,
            "sequences_per_engine": one.sequences,
        }
        for one in groups
    ]
