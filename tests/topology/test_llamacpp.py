"""A real engine: llama.cpp's own server, with the model of random weights that the tree carries."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadstair.fetch import fetch
from loadstair.plan.model import Balancer, Plan, ProcessesTopology
from loadstair.plan.parse import read_plan
from loadstair.telemetry.counters import server_counters
from loadstair.topology.bring_up import bring_up

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
PLANS = ROOT / "plans"
DEPLOY = ROOT / "deploy" / "llamacpp"


@pytest.fixture
def plan() -> Plan:
    return read_plan(PLANS / "real-llamacpp.yaml")


def streamed_events(url: str, max_tokens: int) -> list[dict[str, Any]]:
    asked = {
        "model": "tiny",
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "tell me of the water and the land"}],
    }
    body = json.dumps(asked).encode()
    answer = fetch(f"{url}/chat/completions", body=body, headers={"Content-Type": "application/json"}, timeout_s=30)
    lines = [line.removeprefix("data: ") for line in answer.text().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_one_engine_streams_a_chunk_for_each_token(plan: Plan, tmp_path: Path) -> None:
    with bring_up(plan.topologies[0], plan=plan, plan_dir=PLANS, log_dir=tmp_path, visit=1) as running:
        before = server_counters(running.endpoint)
        events = streamed_events(running.endpoint.url, 12)
        after = server_counters(running.endpoint)
    contents = [choice["delta"].get("content") for event in events for choice in event["choices"]]
    words = [content for content in contents if content]
    assert len(words) == 12
    assert all(word.startswith(" ") for word in words)  # whole words, one to a token
    usage = events[-1]["usage"]
    assert usage["completion_tokens"] == 12
    assert before is not None
    assert after is not None
    assert after.output_tokens is not None
    assert before.output_tokens is not None
    assert after.output_tokens - before.output_tokens == 12
    assert running.endpoint.fingerprint["seen"]["server"] == "llama.cpp"


def test_two_engines_behind_nginx_lose_no_request(plan: Plan, tmp_path: Path) -> None:
    one = plan.topologies[1]
    assert isinstance(one, ProcessesTopology)
    two = one.model_copy(update={"processes": one.processes * 2, "balancer": Balancer(policy="least_conn")})
    with bring_up(two, plan=plan, plan_dir=PLANS, log_dir=tmp_path, visit=1) as running:
        # It closes its connections after a stream without saying so: they must not be used again.
        assert running.endpoint.fingerprint["balancer"]["upstream_keep_alive"] is False
        for _ in range(20):
            streamed_events(running.endpoint.url, 2)


def test_the_model_in_the_tree_is_what_its_generator_writes(tmp_path: Path) -> None:
    again = tmp_path / "tiny.gguf"
    subprocess.run([sys.executable, str(DEPLOY / "make_tiny_gguf.py"), "--out", str(again)], check=True)
    assert again.read_bytes() == (DEPLOY / "tiny.gguf").read_bytes()
