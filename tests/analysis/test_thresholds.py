import pytest

from loadstair.analysis.thresholds import ThresholdStatus, judge_threshold
from loadstair.plan.threshold import Having, Index, Name, parse_threshold

SUMMARY = {
    "topologies": {
        "tp4": {
            "steps": [
                {
                    "load": 16.0,
                    "verdict": "valid",
                    "ttft_ms": {"p99": {"value": 120.0, "low": 110.0, "high": 130.0, "n": 9}},
                },
                {
                    "load": 64.0,
                    "verdict": "invalid",
                    "ttft_ms": {"p99": {"value": 300.0, "low": 290.0, "high": 310.0, "n": 9}},
                },
            ],
            "capacity": {"goodput_rps": {"value": None, "low": None, "high": None, "n": 0}, "knee_load": 16.0},
        },
        "qwen2.5": {"steps": [], "capacity": {"knee_load": 8.0}},
    },
    "comparisons": {"qwen2.5_vs_tp4": {"throughput_ratio": {"value": 1.1, "low": 0.9, "high": 1.3, "n": 3}}},
}


def status(text: str) -> ThresholdStatus:
    return judge_threshold(parse_threshold(text), SUMMARY).status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topologies.tp4.steps[load=16].ttft_ms.p99 <= 120", ThresholdStatus.MET),
        ("topologies.tp4.steps[load=16].ttft_ms.p99 < 120", ThresholdStatus.FAILED),
        ("topologies.tp4.steps[0].ttft_ms.p99.high<=130", ThresholdStatus.MET),
        ("topologies.tp4.capacity.knee_load >= 16", ThresholdStatus.MET),
        ("topologies.qwen2.5.capacity.knee_load == 8", ThresholdStatus.MET),
        ("comparisons.qwen2.5_vs_tp4.throughput_ratio > 1", ThresholdStatus.MET),
        ("comparisons.qwen2.5_vs_tp4.throughput_ratio.low > 1.0", ThresholdStatus.FAILED),
        ("topologies.tp4.steps[load=64].ttft_ms.p99 <= 1000", ThresholdStatus.INVALID),
        ("topologies.tp4.steps[load=32].ttft_ms.p99 <= 1000", ThresholdStatus.INVALID),
        ("topologies.tp4.capacity.goodput_rps >= 0", ThresholdStatus.INVALID),
        ("topologies.tp9.capacity.knee_load >= 0", ThresholdStatus.INVALID),
        ("topologies.tp4.steps >= 0", ThresholdStatus.INVALID),
        ("topologies.tp4.steps[7].load >= 0", ThresholdStatus.INVALID),
    ],
)
def test_a_threshold_is_met_failed_or_not_to_be_told(text: str, expected: ThresholdStatus) -> None:
    assert status(text) is expected


@pytest.mark.parametrize("path", ["ttft_ms.p99", "ttft_ms.p99.value"])
def test_the_result_says_what_was_measured_and_how_surely(path: str) -> None:
    result = judge_threshold(parse_threshold(f"topologies.tp4.steps[load=16].{path} <= 100"), SUMMARY)
    assert (result.value, result.message) == (120.0, "measured 120 [110, 130], n 9")


def test_a_value_just_beyond_the_limit_does_not_look_like_it() -> None:
    result = judge_threshold(parse_threshold("topologies.x.value <= 200"), {"topologies": {"x": {"value": 200.004}}})
    assert (result.status, result.message) == (ThresholdStatus.FAILED, "measured 200.004")


def test_an_unknown_number_says_what_it_lacks() -> None:
    few = {"value": None, "n": 42, "findings": [{"message": "a p99 needs 100 samples, there are 42"}]}
    result = judge_threshold(
        parse_threshold("topologies.tp4.ttft_ms.p99 <= 1"), {"topologies": {"tp4": {"ttft_ms": {"p99": few}}}}
    )
    assert (result.status, result.message) == (ThresholdStatus.INVALID, "a p99 needs 100 samples, there are 42")


def test_a_path_is_parsed_into_names_indices_and_entries() -> None:
    threshold = parse_threshold("  topologies.a-b.steps[load=0.5].slo[2].met >= 1e3 ")
    assert threshold.path == (
        Name("topologies"), Name("a-b"), Name("steps"), Having("load", "0.5"), Name("slo"), Index(2), Name("met"),
    )  # fmt: skip
    assert (threshold.op, threshold.limit) == (">=", 1000.0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is no threshold"),
        ("topologies.tp4.capacity.goodput_rps", "is no threshold"),
        ("topologies.tp4.capacity.goodput_rps >= four", "is not a number"),
        ("topologies.tp4.capacity.goodput_rps >= inf", "finite"),
        (">= 4", "has no path"),
        ("topologies..tp4 >= 4", "goes wrong at"),
        ("topologies.tp4. >= 4", "ends in a dot"),
        ("topologies.tp4.steps[load=] >= 4", "goes wrong at"),
        ("topologies.tp4 steps >= 4", "goes wrong at"),
        ("capacity.goodput_rps >= 4", "must start with"),
        ("topologies.tp4.x = 4", "is no threshold"),
    ],
)
def test_a_wrong_threshold_is_refused_in_one_line_that_says_why(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        parse_threshold(text)
    assert "\n" not in str(caught.value)
