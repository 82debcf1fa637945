"""Where a case fits: the memory of one GPU of an engine, and how many engines carry the load."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadstair.serving.gpu import Gpu
from loadstair.serving.memory import MemoryBudget, kv_bytes_per_sequence, kv_copies, memory_budget, sequences
from loadstair.serving.model import Model
from loadstair.sizing.case import Case

GPUS_MAX = 8
"""Of one machine."""
TENSOR_PARALLEL = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Engines that are alike, each on `tp` GPUs of its own, and what their memory holds."""

    gpu: Gpu
    tp: int
    engines: int
    budget: MemoryBudget
    asked_sequences: int
    """That the fullest engine is to carry."""
    asked_kv_bytes: int
    """Their keys and values, on each GPU."""
    sequences: int
    """Full-length ones that one engine holds."""
    kv_use: float | None
    """Share of the KV cache that the fullest engine's usual requests take when all have ended; None without room."""

    @property
    def name(self) -> str:
        return f"{self.engines} × TP{self.tp}"

    @property
    def gpus(self) -> int:
        return self.engines * self.tp

    @property
    def carries(self) -> bool:
        return self.sequences >= self.asked_sequences

    @property
    def needed_bytes(self) -> int:
        """On each GPU: all that is not keys and values, and those that are asked for."""
        budget = self.budget
        fixed = budget.weights_bytes + budget.activations_bytes + budget.collectives_bytes + budget.other_bytes
        return fixed + self.asked_kv_bytes


def fit(case: Case, gpu: Gpu, tp: int, engines: int) -> Fit:
    budget = memory_budget(
        case.model,
        gpu,
        tp,
        formats=case.formats,
        gpu_memory_utilization=case.gpu_memory_utilization,
        max_num_batched_tokens=case.batched_tokens(gpu),
        max_num_seqs=case.max_num_seqs(engines),
    )
    asked = case.concurrent_per_engine(engines)
    share = kv_copies(case.model, tp) / tp
    longest = kv_bytes_per_sequence(case.model, case.context_tokens, case.formats) * share
    usual = kv_bytes_per_sequence(case.model, case.input_tokens + case.output_tokens, case.formats) * share
    return Fit(
        gpu=gpu,
        tp=tp,
        engines=engines,
        budget=budget,
        asked_sequences=asked,
        asked_kv_bytes=math.ceil(asked * longest),
        sequences=sequences(case.model, budget, case.context_tokens, tp, case.formats),
        kv_use=asked * usual / budget.kv_bytes if budget.kv_bytes else None,
    )


def carrying(case: Case, gpu: Gpu, tp: int, gpus_max: int = GPUS_MAX) -> tuple[Fit, ...]:
    """Every number of engines that carries the load, smallest first; empty where not even the largest does."""
    fits = (fit(case, gpu, tp, engines) for engines in range(1, gpus_max // tp + 1))
    return tuple(one for one in fits if one.carries)


def largest(case: Case, gpu: Gpu, tp: int, gpus_max: int = GPUS_MAX) -> Fit:
    return fit(case, gpu, tp, gpus_max // tp)


def placements(model: Model, gpus: Sequence[Gpu], gpus_max: int = GPUS_MAX) -> Iterator[tuple[Gpu, int]]:
    """Each GPU with each TP over which the model's heads can be split."""
    for gpu in gpus:
        for tp in TENSOR_PARALLEL:
            if tp <= gpus_max and model.heads % tp == 0:
                yield gpu, tp
