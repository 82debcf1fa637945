"""What a soak and a spike need of a plan, and what they cannot use."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadstair.plan.model import LoadShape, Plan
from loadstair.plan.parse import parse_plan, read_plan
from tests.plan.test_parse import PLANS, SIMULATED, problems_of

SLO = {"ttft_ms_p99": 500}


def shaped(
    shape: str, *, slo: dict[str, Any] | None = None, thresholds: tuple[str, ...] = (), **load: Any
) -> dict[str, Any]:
    raw: dict[str, Any] = {**SIMULATED, "load": {"shape": shape, "hold_s": 60, **load}, "thresholds": list(thresholds)}
    return raw if slo is None else raw | {"slo": slo}


def parsed(raw: dict[str, Any]) -> Plan:
    return parse_plan(raw, "demo.yaml")


def test_a_soak_holds_one_load() -> None:
    assert parsed(shaped("soak", steps=[4])).load.shape is LoadShape.SOAK
    assert "one load, not 2" in problems_of(shaped("soak", steps=[4, 8]))["load.steps"]


def test_a_spike_has_the_usual_load_and_the_surge() -> None:
    assert parsed(shaped("spike", steps=[4, 16], slo=SLO, surge_s=10, recovery_s=60)).load.surge_s == 10
    for steps in ([4], [4, 8, 16]):
        assert "two loads" in problems_of(shaped("spike", steps=steps, slo=SLO))["load.steps"]


def test_a_surge_is_more_than_the_usual_load() -> None:
    assert "steps must rise" in problems_of(shaped("spike", steps=[16, 4], slo=SLO))["load.steps[1]"]


@pytest.mark.parametrize("slo", [None, {"error_rate_max": 0.01}])
def test_a_spike_needs_a_limit_of_a_latency_to_recover_to(slo: dict[str, Any] | None) -> None:
    assert "limit of a latency" in problems_of(shaped("spike", steps=[4, 16], slo=slo))["slo"]


@pytest.mark.parametrize("key", ["surge_s", "recovery_s"])
@pytest.mark.parametrize("shape", ["staircase", "soak"])
def test_what_belongs_to_a_spike_is_refused_elsewhere(shape: str, key: str) -> None:
    assert "belongs to a spike" in problems_of(shaped(shape, steps=[4], **{key: 5}))[f"load.{key}"]


@pytest.mark.parametrize(("key", "value"), [("refine", 2), ("precision", 0.03), ("hold_s_max", 90)])
def test_what_belongs_to_a_staircase_is_refused_in_a_soak(key: str, value: float) -> None:
    assert f"load.{key}" in problems_of(shaped("soak", steps=[4], **{key: value}))


def test_a_surge_may_be_too_heavy_for_a_request_to_end_in_it() -> None:
    parsed(shaped("spike", steps=[1, 4000], slo=SLO, surge_s=2))


@pytest.mark.parametrize(
    ("shape", "threshold", "refused"),
    [
        ("soak", "soak.tp4.ttft_ms.p99.drift_per_hour.high <= 5", None),
        ("soak", "soak.tp4.gpu_memory_bytes.hours_until_full.low >= 720", None),
        ("soak", "soak.tp4.error_rate.drift_per_hour <= 0", None),
        ("soak", "spike.tp4.recovery_s <= 10", "no such spike"),
        ("soak", "soak.tp4.ttft_ms.p95.drift_per_hour <= 5", "has no p95"),
        ("spike", "spike.tp4.recovery_s <= 10", None),
        ("spike", "spike.tp4.recovered_share >= 1", None),
        ("spike", "spike.tp4.recovery <= 10", "did you mean recovery_s"),
        ("spike", "soak.tp4.error_rate.drift_per_hour <= 0", "no such soak"),
        ("staircase", "spike.tp4.recovery_s <= 10", "no such spike"),
    ],
)
def test_thresholds_reach_what_the_shape_measures(shape: str, threshold: str, refused: str | None) -> None:
    raw = shaped(shape, steps=[4, 16] if shape == "spike" else [4], slo=SLO, thresholds=(threshold,))
    if refused is None:
        assert parsed(raw).thresholds == (threshold,)
    else:
        assert refused in problems_of(raw)["thresholds[0]"]


@pytest.mark.parametrize(("name", "shape"), [("soak", LoadShape.SOAK), ("spike", LoadShape.SPIKE)])
def test_the_plans_that_show_them_are_right(name: str, shape: LoadShape) -> None:
    path: Path = PLANS / f"{name}.yaml"
    assert read_plan(path).load.shape is shape
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == name
