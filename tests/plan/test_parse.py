"""A plan file becomes frozen values, or every mistake in it at once."""

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from loadstair.errors import PlanError, UsageError
from loadstair.plan.model import Lengths, RemoteWorkers, SimulatedTopology
from loadstair.plan.parse import apply_override, parse_plan, plan_yaml, read_plan
from loadstair.plan.schema import plan_schema, schema_text
from loadstair.preview import preview

PLANS = Path(__file__).parents[2] / "plans"

SIMULATED: dict[str, Any] = {
    "name": "demo",
    "workload": {"model": "Qwen/Qwen2.5-32B-Instruct", "input_tokens": {"mean": 128, "cv": 0.15}, "output_tokens": 64},
    "load": {"steps": [1, 4], "hold_s": 5},
    "topologies": [
        {"name": "tp4", "kind": "simulated", "gpus": {"type": "h100-nvl", "count": 4}, "engines": [{"tp": 4}]},
    ],
}


def plan_with(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SIMULATED)
    apply_override(raw, f"{path}={json.dumps(value)}")
    return raw


def problems_of(raw: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(PlanError) as caught:
        parse_plan(raw, "demo.yaml")
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_number_as_length_means_fixed() -> None:
    plan = parse_plan(SIMULATED, "demo.yaml")
    assert plan.workload.output_tokens == Lengths(mean=64, cv=0)
    assert isinstance(plan.topologies[0], SimulatedTopology)


def test_a_plan_cannot_be_changed() -> None:
    plan = parse_plan(SIMULATED, "demo.yaml")
    with pytest.raises(ValidationError):
        plan.load.hold_s = 7.0  # type: ignore[misc]


def test_every_mistake_is_told_at_once_with_its_path_and_value() -> None:
    raw = copy.deepcopy(SIMULATED)
    raw["load"] |= {"hold_s": -1, "hold_sec": 3}
    raw["topologies"][0]["engines"][0]["tp"] = "four"
    del raw["workload"]["model"]
    problems = problems_of(raw)
    assert set(problems) == {"load.hold_s", "load.hold_sec", "topologies[0].engines[0].tp", "workload.model"}
    assert problems["load.hold_s"].endswith("greater than 0, not -1")
    assert problems["load.hold_sec"] == "unknown key; did you mean hold_s?"
    assert "'four'" in problems["topologies[0].engines[0].tp"]
    assert problems["workload.model"] == "is missing"


def test_each_mistake_is_one_line_that_begins_with_the_file() -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(SIMULATED | {"nmae": 1, "seed": -1}, "demo.yaml")
    assert [line.split(": ")[:2] for line in str(caught.value).splitlines()] == [
        ["demo.yaml", "seed"],
        ["demo.yaml", "nmae"],
    ]


OPEN = {"mode": "open", "steps": [0.5, 2]}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("load.steps", [], "at least 1 item"),
        ("load.steps", 4, "should be a list, not 4"),
        ("load", 4, "should be a mapping of keys, not 4"),
        ("name", 4, "should be text, not 4; quote it"),
        ("load.repeats", 10**9, "less than or equal to 1000"),
        ("topologies[0].headers", {"X A": "b"}, "is no HTTP header"),
        ("topologies[0].headers", {"X-A": "x\ny"}, "is no HTTP header"),
        ("load.steps[1]", 1, "steps must rise: 1 comes after 1"),
        ("load.steps[1]", 2.5, "users are whole numbers, not 2.5"),
        ("load.arrivals", "poisson", "is for an open loop: set load.mode to open"),
        ("load.max_in_flight", 5, "is for an open loop"),
        ("load.arrivals", "uniform", "'constant', 'poisson', 'gamma' or 'trace'"),
        ("load", OPEN | {"arrivals": "gamma"}, "is missing: load.arrivals is gamma"),
        ("load", OPEN | {"burstiness": 0.5}, "belongs to load.arrivals: gamma"),
        ("load", OPEN | {"arrivals": "trace"}, "is missing: load.arrivals is trace"),
        ("load", OPEN | {"trace": "t.csv"}, "belongs to load.arrivals: trace"),
        ("workload.model", "nobody/nothing", "is not in the catalogue"),
        ("topologies[0].gpus.type", "abacus", "is not in the catalogue"),
        ("topologies[0].gpus.count", 2, "use 4 GPUs, but gpus.count is 2"),
        ("topologies[0].engines[0].flags", {"max_seqs": 3}, "no such flag; it has max_num_seqs"),
        ("topologies[0].engines", [{"tp": 2}, {"tp": 2}], "2 engines need one, such as {kind: nginx}"),
        ("topologies[0].kind", "quantum", "needs kind: simulated, processes, external"),
        ("topologies[0].name", "a b", "letters, digits"),
        ("topologies[0].engines[0].tp", 3, "3 does not divide the model's 40 attention heads"),
        ("topologies[0].engines[0].flags", {"gpu_memory_utilization": 1.5}, "at most 1, not 1.5"),
        ("topologies[0].engines[0].flags", {"max_num_seqs": 2.5}, "must be a whole number, not 2.5"),
        (
            "topologies[0].engines[0].flags",
            {"quantization": "fp7"},
            "'fp7' is no weight format of the model: bf16, fp8",
        ),
        ("topologies[0].engines[0].flags", {"kv_cache_dtype": 8}, "'8' is no format of keys and values: auto"),
        ("topologies[0].headers", {"X-Goog-Api-Key": "x"}, "is a secret"),
        ("topologies[0].headers", {"Authorization": "Bearer x"}, "is a secret: put it into an environment variable"),
        ("workers", 0, "not 0"),
        ("workers", {"expect": 0, "bind": "10.0.0.5"}, "not 0"),
        ("workers", {"expect": 2, "bind": "localhost"}, "'localhost' is no IPv4 address"),
        ("workers", {"expect": 2, "bind": "10.0.0.5", "port": 70000}, "less than or equal to 65535"),
        ("workers", {"expect": 2, "bind": "10.0.0.5"}, "which remote workers cannot reach: start the servers"),
        ("thresholds", ["topologies.tp9.capacity.goodput_rps >= 4"], "the plan gives no such topologies; it gives tp4"),
        ("workload.input_tokens", {"mean": 5, "max": 4}, "must lie between min 1 and max 4"),
    ],
)
def test_a_mistake_says_what_would_be_right(path: str, value: Any, message: str) -> None:
    assert message in " | ".join(problems_of(plan_with(path, value)).values())


def test_a_model_too_large_in_bf16_may_fit_in_fewer_bits() -> None:
    raw = plan_with("workload.model", "meta-llama/Llama-3.3-70B-Instruct")
    raw["topologies"][0]["engines"] = [{"tp": 1}]
    assert "in BF16 at tp 1 leaves 0 tokens" in problems_of(raw)["topologies[0].engines[0].tp"]
    raw["topologies"][0]["engines"] = [{"tp": 1, "flags": {"quantization": "int4", "kv_cache_dtype": "fp8"}}]
    assert parse_plan(raw, "demo.yaml").topologies[0].name == "tp4"


def test_a_models_own_configuration_may_be_given_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    file.write_text(json.dumps(shape | {"vocab_size": 1000, "max_position_embeddings": 2048}))
    assert parse_plan(plan_with("workload.model", str(tmp_path)), "demo.yaml").workload.model == str(tmp_path)
    file.write_text(json.dumps(shape))
    assert problems_of(plan_with("workload.model", str(tmp_path))) == {
        "workload.model": f"{file}: vocab_size is missing"
    }


def test_remote_workers_are_for_servers_that_they_can_reach() -> None:
    raw = plan_with("topologies[0]", {"name": "x", "kind": "external", "url": "http://10.0.0.9:8000"})
    plan = parse_plan(raw | {"workers": {"expect": 2, "bind": "10.0.0.5"}}, "demo.yaml")
    assert plan.workers == RemoteWorkers(expect=2, bind="10.0.0.5", port=5557, wait_s=120.0)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    raw = plan_with("topologies[0]", {"name": "x", "kind": "external", "url": "http://me:hidden@127.0.0.1:1"})
    message = problems_of(raw)["topologies[0].url"]
    assert "must not hold a user and password" in message
    assert "hidden" not in message


def test_the_query_of_a_url_is_not_shown_either() -> None:
    raw = plan_with("topologies[0]", {"name": "x", "kind": "external", "url": "http://127.0.0.1:1/v1?key=hidden"})
    assert "must end with the path" in problems_of(raw)["topologies[0].url"]
    assert "not 'http://127.0.0.1:1/v1?…'" in problems_of(raw)["topologies[0].url"]


@pytest.mark.parametrize(
    "url", ["http://", "http://[half", "http://host:port", "http://host:99999", "ftp://host", "http://a b"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    raw = plan_with("topologies[0]", {"name": "x", "kind": "external", "url": "http://127.0.0.1:1", "replicas": [url]})
    assert "must " in problems_of(raw)["topologies[0].replicas[0]"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"env": {"HF_TOKEN": "x"}}, "env.HF_TOKEN"),
        ({"command": "vllm serve m --api-key sk-1"}, "command"),
        ({"command": ["vllm", "serve", "m", "--api-key=sk-1"]}, "command"),
    ],
)
def test_a_secret_of_a_process_is_refused(change: dict[str, Any], path: str) -> None:
    process = {"command": "serve", "ready_url": "http://127.0.0.1:1/health"} | change
    raw = plan_with("topologies[0]", {"name": "x", "kind": "processes", "processes": [process]})
    assert f"topologies[0].processes[0].{path}" in problems_of(raw)


def test_a_first_byte_is_not_waited_for_longer_than_the_request() -> None:
    message = problems_of(plan_with("load.first_byte_timeout_s", 601))["load.first_byte_timeout_s"]
    assert message == "601 s is longer than the whole request may take (load.request_timeout_s: 600 s)"


def test_token_counts_are_no_secrets() -> None:
    command = "vllm serve m --max-num-batched-tokens 8192 --tokenizer t"
    process = {"command": command, "ready_url": "http://127.0.0.1:1/health", "env": {"TOKENIZERS_PARALLELISM": "0"}}
    parse_plan(plan_with("topologies[0]", {"name": "x", "kind": "processes", "processes": [process]}), "demo.yaml")


def test_a_hold_shorter_than_one_expected_request_is_refused_where_the_engine_is_simulated() -> None:
    # 64 tokens at some 10 ms each, one user: more than half a second.
    message = problems_of(plan_with("load.hold_s", 0.3))["load.hold_s"]
    assert message.startswith("0.3 s is shorter than one expected request (")
    assert "nothing could start and end in it" in message


def test_a_model_that_does_not_fit_is_refused() -> None:
    raw = plan_with("topologies[0].gpus", {"type": "l40s", "count": 1})
    raw["topologies"][0]["engines"] = [{"tp": 1}]
    assert (
        "leaves 0 tokens of KV cache" in problems_of(raw)["topologies[0].engines[0].tp"]
    )  # 61 GiB of weights, 45 GiB of memory


def test_the_resolved_plan_reads_back_as_the_same_plan() -> None:
    plan = parse_plan(SIMULATED, "demo.yaml")
    assert parse_plan(yaml.safe_load(plan_yaml(plan)), "again.yaml") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML"),
        ("just words", "a plan is a mapping"),
        ("name: a\nname: b\n", "line 2: not YAML: key 'name' is given twice"),
        ("a: !!python/object:os.system x", "not YAML"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{new}: &{new} [{','.join(f'*{old}' for _ in range(9))}]\n" for old, new in pairwise("abcdefgh")
            ),
            "has more than 100000 values, aliases written out",
        ),
    ],
)
def test_a_file_that_is_no_plan_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_plan(tmp_path / "none.yaml")


def test_an_override_sets_one_value() -> None:
    raw = copy.deepcopy(SIMULATED)
    apply_override(raw, "load.hold_s=7.5")
    apply_override(raw, "topologies[0].engines[0].tp=2")
    apply_override(raw, "slo.ttft_ms_p99=200")
    plan = parse_plan(raw, "demo.yaml")
    assert plan.load.hold_s == 7.5
    assert plan.slo is not None
    assert plan.slo.ttft_ms_p99 == 200
    assert plan.topologies[0].engines[0].tp == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("override", ["load.hold_s", "=3", "topologies[9].name=x", "name.deeper=1", "a[x]=1"])
def test_a_wrong_override_is_a_usage_error(override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        apply_override(copy.deepcopy(SIMULATED), override)


def test_the_committed_schema_is_the_models() -> None:
    assert (PLANS / "schema.json").read_text() == schema_text(), (
        "run: python -m loadstair.plan.schema > plans/schema.json"
    )


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_plan_is_right_by_model_and_schema(path: Path) -> None:
    read_plan(path)
    jsonschema.validate(yaml.safe_load(path.read_text()), plan_schema())


def test_check_tells_how_the_run_goes_on_after_a_loss_where_the_plan_says_so() -> None:
    def told(**load: str) -> list[str]:
        plan = parse_plan(SIMULATED | {"load": SIMULATED["load"] | load}, "demo.yaml")
        return [line for line in preview(plan, PLANS) if line.startswith("a lost ")]

    assert told() == []
    assert told(on_worker_lost="replace", on_server_lost="next") == [
        "a lost worker: all begin anew, and its step is taken again",
        "a lost topology: the run goes on with the next visit",
    ]
