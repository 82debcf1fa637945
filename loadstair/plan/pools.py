"""Prefill and decode on engines of their own: which of a topology's engines does what, by vLLM's `kv_role`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadstair.errors import Problem
from loadstair.plan.flags import KV_ROLE, KV_TRANSFER, number
from loadstair.plan.model import Engine, FlagValue

PREFILL: Final = "kv_producer"
DECODE: Final = "kv_consumer"
SERVED_BY_NONE: Final = (
    "prefill and decode on engines of their own can be forecast (loadstair forecast), but not served by simulated ones"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    prefill: tuple[int, ...]
    """Places among the topology's engines."""
    decode: tuple[int, ...]
    transfer_gb_per_s: float
    """What one prefill engine sends, all of its GPUs together; GB of 10^9 bytes."""


def is_pooled(engines: Sequence[Engine]) -> bool:
    return any(KV_ROLE in engine.flags for engine in engines)


def pools_of(engines: Sequence[Engine]) -> Pools | None:
    """None where every engine does both. Of engines that `pool_problems` has nothing to say about."""
    if not is_pooled(engines):
        return None
    prefill = _with_role(engines, PREFILL)
    return Pools(
        prefill=prefill,
        decode=_with_role(engines, DECODE),
        transfer_gb_per_s=number(engines[prefill[0]].flags, KV_TRANSFER, 0.0),
    )


def pool_problems(engines: Sequence[Engine], path: str, *, has_balancer: bool) -> Iterator[Problem]:
    """`path`: of the topology. Nothing where no engine has a `kv_role`."""
    if not is_pooled(engines):
        return
    missing = [index for index, engine in enumerate(engines) if KV_ROLE not in engine.flags]
    for index in missing:
        message = f"is missing: where one engine has it, each needs {PREFILL} or {DECODE}"
        yield Problem(path=f"{path}.engines[{index}].flags.{KV_ROLE}", message=message)
    for role, does in ((PREFILL, "computes prompts"), (DECODE, "gives tokens")):
        if not missing and not _with_role(engines, role):
            yield Problem(path=f"{path}.engines", message=f"none of them is a {role}, which {does}")
    speeds = {value for engine in engines if (value := _transfer(engine.flags)) is not None}
    if len(speeds) > 1:
        yield Problem(path=f"{path}.engines", message=f"{KV_TRANSFER} must be the same for every {PREFILL}")
    for index in _with_role(engines, DECODE):
        if "max_num_queued_reqs" in engines[index].flags:
            message = f"is for a {PREFILL}: a prompt that is computed already cannot be refused"
            yield Problem(path=f"{path}.engines[{index}].flags.max_num_queued_reqs", message=message)
    if has_balancer:
        message = "has no place before pools: their router takes the engine with the fewest requests; leave it out"
        yield Problem(path=f"{path}.balancer", message=message)


def _with_role(engines: Sequence[Engine], role: str) -> tuple[int, ...]:
    return tuple(index for index, engine in enumerate(engines) if engine.flags.get(KV_ROLE) == role)


def _transfer(flags: Mapping[str, FlagValue]) -> FlagValue | None:
    return flags.get(KV_TRANSFER) if flags.get(KV_ROLE) == PREFILL else None
