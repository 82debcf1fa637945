"""Several models on one GPU: each engine's gpu_memory_utilization is a share of the *whole* memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadstair.serving.formats import Formats
from loadstair.serving.gpu import Gpu
from loadstair.serving.memory import MemoryBudget, memory_budget, sequences
from loadstair.serving.model import Model
from loadstair.sizing.case import batched_tokens

SHARES_MAX = 0.95
"""Of all engines together: the display, the driver and what fragments take the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A model that is to share the GPU."""

    model: Model
    formats: Formats
    share: float
    """Its gpu_memory_utilization."""
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An engine beside others on one GPU."""

    tenant: Tenant
    budget: MemoryBudget
    sequences: int
    """Of the tenant's context that it holds at once; 0 where the model does not fit into its share."""
    share_of_the_rest: float
    """What the same number would leave it, as a share of the whole memory, if it were one of what earlier engines
    left: the misreading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    gpu: Gpu
    instances: tuple[Instance, ...]
    """In starting order."""

    @property
    def share(self) -> float:
        return sum(instance.tenant.share for instance in self.instances)

    @property
    def fits(self) -> bool:
        return all(instance.sequences > 0 for instance in self.instances)


def partition(gpu: Gpu, tenants: Sequence[Tenant]) -> Partition:
    """Raises ValueError where the shares come to more than `SHARES_MAX`."""
    total = sum(tenant.share for tenant in tenants)
    if total > SHARES_MAX + 1e-9:
        raise ValueError(
            f"the shares come to {total:.3g} of the GPU's memory; together they may take {SHARES_MAX:g}, "
            "each being a share of the whole"
        )
    left, instances = 1.0, []
    for tenant in tenants:
        instances.append(_instance(gpu, tenant, share_of_the_rest=left * tenant.share))
        left -= left * tenant.share
    return Partition(gpu=gpu, instances=tuple(instances))


def _instance(gpu: Gpu, tenant: Tenant, share_of_the_rest: float) -> Instance:
    budget = memory_budget(
        tenant.model,
        gpu,
        1,
        formats=tenant.formats,
        gpu_memory_utilization=tenant.share,
        max_num_batched_tokens=batched_tokens(gpu),
    )
    return Instance(
        tenant=tenant,
        budget=budget,
        sequences=sequences(tenant.model, budget, tenant.context_tokens, 1, tenant.formats),
        share_of_the_rest=share_of_the_rest,
    )
