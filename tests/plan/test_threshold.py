"""A threshold that can never be told is refused with the plan, before hours of measuring."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from loadstair.plan.summary_shape import COMPARISON, TOPOLOGY, Entries, Leaf, Named, Shape
from loadstair.plan.threshold import parse_threshold, unknown_segment
from tests.analysis.synthetic import two_topologies
from tests.report.values import summary_of

TOPOLOGIES = ("tp4", "tp2x2", "qwen2.5", "qwen2.5.b")
LOADS = (1.0, 4.0, 16.0)


def wrong(text: str) -> str | None:
    return unknown_segment(parse_threshold(text), topologies=TOPOLOGIES, loads=LOADS)


@pytest.mark.parametrize(
    "path",
    [
        "topologies.tp4.capacity.goodput_rps",
        "topologies.tp4.capacity.goodput_rps.low",
        "topologies.tp4.capacity.recommended_load",
        "topologies.qwen2.5.capacity.knee_load",
        "topologies.qwen2.5.b.capacity.knee_load",
        "topologies.tp4.steps[load=16].ttft_ms.p99",
        "topologies.tp4.steps[load=16.0].ttft_ms.p99.high",
        "topologies.tp4.steps[2].telemetry.kv_usage",
        "topologies.tp4.steps[2].outcomes.timeout",
        "topologies.tp4.steps[0].slo[name=ttft_ms_p99].share_beyond",
        "topologies.tp4.gpus.count",
        "comparisons.tp2x2_vs_tp4.throughput_ratio.low",
        "comparisons.qwen2.5_vs_tp4.steps[load=4].e2e_p50_ratio",
    ],
)
def test_a_path_that_leads_to_a_number_is_right(path: str) -> None:
    assert wrong(f"{path} <= 1") is None


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "topologies.tp4.capacity.goodput_rsp",
            "topologies.tp4.capacity has no goodput_rsp; did you mean goodput_rps?",
        ),
        ("topologies.tp4.capacty.goodput_rps", "topologies.tp4 has no capacty; did you mean capacity?"),
        ("topologies.tp4.steps[load=8].ttft_ms.p99", "the plan has no load 8; its steps are 1, 4, 16"),
        ("topologies.tp4.steps[load=x].ttft_ms.p99", "the plan has no load x; its steps are 1, 4, 16"),
        ("topologies.tp4.steps[3].ttft_ms.p99", "has 3 entries, the first is [0]"),
        ("topologies.tp4.steps[users=4].ttft_ms.p99", "the entries of topologies.tp4.steps have no users; it has load"),
        ("topologies.tp4.steps[load=4].ttft_ms.p95", "[load=4].ttft_ms has no p95; did you mean p9"),
        ("topologies.tp4.steps[load=4].ttft_ms", "is no number: add one of mean, p50, p90, p99"),
        ("topologies.tp4.steps[load=4].verdict", "topologies.tp4.steps[load=4].verdict is no number"),
        ("topologies.tp4.steps.ttft_ms.p99", "is a list: choose an entry, as in topologies.tp4.steps[load=1]"),
        ("topologies.tp4.capacity[0].x", "topologies.tp4.capacity is no list"),
        ("topologies.tp4.capacity.knee_load.low", "topologies.tp4.capacity.knee_load has nothing below it"),
        ("topologies.tp9.capacity.knee_load", "no such topologies; it gives tp4, tp2x2, qwen2.5, qwen2.5.b"),
        ("comparisons.tp4_vs_tp2x2.throughput_ratio", "no such comparisons; it gives tp2x2_vs_tp4"),
        ("topologies.qwen2.5.b.capacity.nee_load", "topologies.qwen2.5.b.capacity has no nee_load; did you mean knee"),
    ],
)
def test_a_wrong_path_is_told_where_it_goes_wrong_and_what_would_be_right(path: str, said: str) -> None:
    message = wrong(f"{path} <= 1")
    assert message is not None
    assert said in message
    assert "\n" not in message


def compare(shape: Shape, value: Any, at: str) -> None:
    """The description has every key of the real thing, and nothing that it lacks."""
    match shape:
        case Leaf.NUMBER:
            assert value is None or (isinstance(value, int | float) and not isinstance(value, bool)), at
        case Leaf.OTHER:
            assert value is None or isinstance(value, str | bool | list), at
        case Named():
            assert all(isinstance(number, int | float) for number in value.values()), at
        case Entries():
            assert value, f"{at}: the run of this test has none"
            for entry in value:
                compare(shape.entry, entry, f"{at}[]")
        case Mapping():
            optional = {"findings"} if "value" in shape else {"ttft_due_ms"}
            assert value.keys() - optional == shape.keys() - optional, at
            for key, inner in value.items():
                compare(shape[key], inner, f"{at}.{key}")


def test_the_description_is_that_of_a_real_summary() -> None:
    run = two_topologies(load={"steps": [4, 16], "hold_s": 4}, slo={"ttft_ms_p90": 100})
    # As in an open loop, where every request has a time at which it was due.
    summary = summary_of(run.with_rows(lambda row: replace(row, due_ns=row.dispatch_ns)))
    for name, topology in summary["topologies"].items():
        compare(TOPOLOGY, topology, name)
    (comparison,) = summary["comparisons"].values()
    compare(COMPARISON, comparison, "comparison")
    assert "ttft_due_ms" in summary["topologies"]["tp4"]["steps"][0]
