"""A topology of which some engines compute prompts and the others give the tokens."""

import itertools
from typing import Any

import pytest

from loadstair.forecast.fleet import Unknown, fleet_of
from loadstair.plan.model import Plan
from loadstair.serving.catalogue import find_model
from loadstair.serving.memory import kv_bytes_per_token
from tests.forecast.plans import GPUS, MODEL, TWO_TP2, load_of, plan_of

FAST, SLOW = 400.0, 1.0
"""GB/s."""


def pooled(gb_per_s: float = FAST, **changes: Any) -> dict[str, Any]:
    prefill = {"tp": 2, "flags": {"kv_role": "kv_producer", "kv_transfer_gb_per_s": gb_per_s}}
    decode = {"tp": 2, "flags": {"kv_role": "kv_consumer"}}
    return {"name": "p1d1", "kind": "simulated", "gpus": GPUS, "engines": [prefill, decode], **changes}


def long_prompts(topology: dict[str, Any]) -> Plan:
    lengths = {"input_tokens": {"mean": 4000, "cv": 0}, "output_tokens": {"mean": 100, "cv": 0}}
    return plan_of(topology, workload={"model": MODEL, **lengths})


def rows_of(plan: Plan, *, users: int, seconds: float = 10.0) -> list[dict[str, Any]]:
    load = load_of(plan)
    load.begin_step(step=0, load=users, users=users, growth_s=0.5)
    load.clock.sleep_s(seconds)
    load.stop()
    rows: list[dict[str, Any]] = load.take_records().to_pylist()
    return [row for row in rows if row["outcome"] == "ok"]


def ttft_ms(row: dict[str, Any]) -> float:
    return float(row["first_token_ns"] - row["sent_ns"]) / 1e6


def itl_ms_longest(rows: list[dict[str, Any]]) -> float:
    gaps_ns = [after - before for row in rows for before, after in itertools.pairwise(row["arrivals"])]
    return float(max(gaps_ns)) / 1e6


def test_a_prompts_keys_and_values_are_sent_before_the_first_token() -> None:
    fast, slow = (rows_of(long_prompts(pooled(speed)), users=1)[0] for speed in (FAST, SLOW))
    model = find_model(MODEL)
    assert model is not None
    sent_bytes = 4000 * kv_bytes_per_token(model)
    assert ttft_ms(slow) - ttft_ms(fast) == pytest.approx(sent_bytes / 1e9 * (1 / SLOW - 1 / FAST) * 1e3, abs=0.01)


def test_long_prompts_hold_up_nobodys_tokens() -> None:
    both = rows_of(long_prompts(TWO_TP2), users=4)
    apart = rows_of(long_prompts(pooled()), users=4)
    assert itl_ms_longest(apart) < 0.5 * itl_ms_longest(both)


def test_every_request_gets_its_tokens_once_and_the_servers_counters_are_those_of_the_answers() -> None:
    load = load_of(long_prompts(pooled()))
    load.begin_step(step=0, load=4, users=4, growth_s=0.5)
    load.clock.sleep_s(5)
    load.stop()
    rows = [row for row in load.take_records().to_pylist() if row["outcome"] == "ok"]
    assert all(row["output_tokens"] == row["output_tokens_asked"] == 100 for row in rows)
    assert {row["upstream"] for row in rows} == {None}  # two engines had it
    counters = load.gauges.server_counters()
    assert counters.requests_finished == len(rows)
    assert counters.output_tokens >= 100 * len(rows)


def test_each_engine_has_gauges_of_its_own() -> None:
    load = load_of(long_prompts(pooled()))
    load.begin_step(step=0, load=8, users=8, growth_s=0.5)
    load.clock.sleep_s(5)
    read = load.gauges.take_rows()
    assert {source for _, source, *_ in read} == {"p1d1/engine0", "p1d1/engine1"}
    decode = [row for row in read if row[1:3] == ("p1d1/engine1", "engine.tokens.generated")]
    assert decode[-1][-1] > 100


def test_a_real_topology_with_half_a_pool_cannot_be_foretold() -> None:
    prefill = {"tp": 2, "flags": {"kv_role": "kv_producer", "kv_transfer_gb_per_s": 50}}
    real = {"name": "real", "kind": "external", "url": "http://127.0.0.1:1", "gpus": GPUS, "engines": [prefill]}
    plan = plan_of(real)
    told = fleet_of(plan, plan.topologies[0])
    assert isinstance(told, Unknown)
    assert told.why == "engines: none of them is a kv_consumer, which gives tokens"
