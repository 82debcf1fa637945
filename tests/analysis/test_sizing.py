"""What a topology's GPUs hold, by the plan."""

import pytest

from loadstair.analysis.sizing import memory_values, topology_memory
from loadstair.plan.model import Plan
from tests.analysis.synthetic import plan_of

QWEN, GEMMA = "Qwen/Qwen2.5-32B-Instruct", "google/gemma-3-12b-it"
LENGTHS = {"input_tokens": 2048, "output_tokens": 512}


def plan(topology: dict[str, object], model: str = QWEN, **changes: object) -> Plan:
    workload = {"model": model, **LENGTHS}
    kind = {"name": "one", "kind": "external", "url": "http://127.0.0.1:1"}
    return plan_of({}, workload=workload, topologies=[kind | topology], **changes)


def memory_of(plan_: Plan) -> list[tuple[int, int, int]]:
    return [(one.tp, one.engines, one.sequences) for one in topology_memory(plan_.topologies[0], plan_)]


H100 = {"gpus": {"type": "h100-sxm", "count": 4}}


@pytest.mark.parametrize(("tp", "engines", "expected"), [(1, 4, 48), (2, 2, 246), (4, 1, 346)])
def test_four_h100_hold_the_sequences_of_the_reference_table(tp: int, engines: int, expected: int) -> None:
    (found,) = memory_of(plan({**H100, "engines": [{"tp": tp}] * engines}))
    assert found == (tp, engines, expected // engines)


def test_engines_that_differ_stand_apart() -> None:
    engines = [{"tp": 2}, {"tp": 1, "flags": {"kv_cache_dtype": "fp8"}}, {"tp": 1}]
    assert memory_of(plan({**H100, "engines": engines})) == [(2, 1, 123), (1, 1, 24), (1, 1, 12)]


def test_the_flags_of_an_engine_count() -> None:
    flags = {"max_num_batched_tokens": 2048, "gpu_memory_utilization": 0.9, "quantization": "none"}
    gemma = plan({**H100, "engines": [{"tp": 1, "flags": flags}]}, GEMMA)
    gemma = gemma.model_copy(update={"workload": gemma.workload.model_copy(update={"output_tokens": LONG})})
    assert memory_of(gemma) == [(1, 1, 83)]  # 2048 + 2048 tokens


LONG = plan({}).workload.output_tokens.model_copy(update={"mean": 2048.0})


@pytest.mark.parametrize(
    "topology",
    [
        {"engines": [{"tp": 1}]},
        H100,
        {"gpus": {"type": "abacus", "count": 1}, "engines": [{"tp": 1}]},
        {**H100, "engines": [{"tp": 1, "flags": {"quantization": "q7"}}]},
        {**H100, "engines": [{"tp": 1, "flags": {"max_num_seqs": "many"}}]},
    ],
    ids=["no-gpus", "no-engines", "unknown-gpu", "unknown-format", "no-number"],
)
def test_what_is_not_known_is_left_out(topology: dict[str, object]) -> None:
    assert memory_of(plan(topology)) == []


def test_a_model_of_nobodys_is_left_out() -> None:
    assert memory_of(plan({**H100, "engines": [{"tp": 1}]}, "me/mine")) == []


def test_the_parts_add_up() -> None:
    one = plan({**H100, "engines": [{"tp": 2}]})
    (values,) = memory_values(topology_memory(one.topologies[0], one))
    parts = [values[f"{name}_bytes"] for name in ("weights", "activations", "overhead", "kv_room")]
    assert sum(parts) == values["budget_bytes"]  # type: ignore[arg-type]
