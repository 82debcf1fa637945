"""Prefill and decode on engines of their own: what a plan must say of them."""

from typing import Any

import pytest

from loadstair.plan.model import Engine
from loadstair.plan.pools import Pools, pool_problems, pools_of

PREFILL = {"kv_role": "kv_producer", "kv_transfer_gb_per_s": 50}
DECODE = {"kv_role": "kv_consumer"}


def engines(*flags: dict[str, Any]) -> tuple[Engine, ...]:
    return tuple(Engine(tp=1, flags=one) for one in flags)


def test_each_engine_belongs_to_one_pool() -> None:
    given = engines(DECODE, PREFILL, DECODE)
    assert list(pool_problems(given, "topologies[0]", has_balancer=False)) == []
    assert pools_of(given) == Pools(prefill=(1,), decode=(0, 2), transfer_gb_per_s=50)


def test_without_roles_there_are_no_pools() -> None:
    given = engines({}, {"max_num_seqs": 8})
    assert pools_of(given) is None
    assert list(pool_problems(given, "topologies[0]", has_balancer=True)) == []


@pytest.mark.parametrize(
    ("flags", "has_balancer", "path", "message"),
    [
        ([PREFILL, DECODE, {}], False, "engines[2].flags.kv_role", "each needs kv_producer or kv_consumer"),
        ([PREFILL, {"kv_role": "kv_both"}], False, "engines[1].flags.kv_role", "is 'kv_both': each engine needs"),
        (
            [{"kv_role": "kv_producer"}, DECODE],
            False,
            "engines[0].flags.kv_transfer_gb_per_s",
            "must be the GB/s that one",
        ),
        (
            [PREFILL | {"kv_transfer_gb_per_s": 0}, DECODE],
            False,
            "engines[0].flags.kv_transfer_gb_per_s",
            "such as 50 over a 400 Gb/s network, not 0",
        ),
        ([PREFILL, PREFILL], False, "engines", "none of them is a kv_consumer, which gives tokens"),
        ([DECODE], False, "engines", "none of them is a kv_producer, which computes prompts"),
        ([PREFILL, PREFILL | {"kv_transfer_gb_per_s": 25}, DECODE], False, "engines", "must be the same for every"),
        (
            [PREFILL, DECODE | {"max_num_queued_reqs": 9}],
            False,
            "engines[1].flags.max_num_queued_reqs",
            "is for a kv_producer",
        ),
        ([PREFILL, DECODE], True, "balancer", "has no place before pools"),
    ],
)
def test_what_makes_no_pools_is_told_in_one_line(
    flags: list[dict[str, Any]], has_balancer: bool, path: str, message: str
) -> None:
    (problem,) = pool_problems(engines(*flags), "topologies[0]", has_balancer=has_balancer)
    assert problem.path == f"topologies[0].{path}"
    assert message in problem.message
