"""Prefill and decode on engines of their own: which of a topology's engines does what, by vLLM's `kv_role`."""

import math
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
    wrong = [(index, why) for index, engine in enumerate(engines) if (why := _wrong_role(engine.flags)) is not None]
    for index, why in wrong:
        yield Problem(path=f"{path}.engines[{index}].flags.{KV_ROLE}", message=why)
    prefill, decode = _with_role(engines, PREFILL), _with_role(engines, DECODE)
    for places, role, does in ((prefill, PREFILL, "computes prompts"), (decode, DECODE, "gives tokens")):
        if not wrong and not places:
            yield Problem(path=f"{path}.engines", message=f"none of them is a {role}, which {does}")
    for index in prefill:
        value = engines[index].flags.get(KV_TRANSFER)
        if isinstance(value, bool | str) or value is None or not 0 < value < math.inf:
            message = f"must be the GB/s that one {PREFILL} sends, such as 50 over a 400 Gb/s network, not {value!r}"
            yield Problem(path=f"{path}.engines[{index}].flags.{KV_TRANSFER}", message=message)
    if len({engines[index].flags.get(KV_TRANSFER) for index in prefill}) > 1:
        yield Problem(path=f"{path}.engines", message=f"{KV_TRANSFER} must be the same for every {PREFILL}")
    for index in decode:
        if "max_num_queued_reqs" in engines[index].flags:
            message = f"is for a {PREFILL}: a prompt that is computed already cannot be refused"
            yield Problem(path=f"{path}.engines[{index}].flags.max_num_queued_reqs", message=message)
    if has_balancer:
        message = "has no place before pools: their router takes the engine with the fewest requests; leave it out"
        yield Problem(path=f"{path}.balancer", message=message)


def _with_role(engines: Sequence[Engine], role: str) -> tuple[int, ...]:
    return tuple(index for index, engine in enumerate(engines) if engine.flags.get(KV_ROLE) == role)


def _wrong_role(flags: Mapping[str, FlagValue]) -> str | None:
    role = flags.get(KV_ROLE)
    if role in (PREFILL, DECODE):
        return None
    given = "is missing: where one engine has it, each" if role is None else f"is {role!r}: each engine"
    return f"{given} needs {PREFILL} or {DECODE}"
