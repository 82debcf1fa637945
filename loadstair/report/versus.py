"""A comparison's tables: ratios with their intervals, and in words who is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadstair.report import view


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    value: str
    interval: str
    words: str
    """Who is better, or that the interval does not say."""
    winner: int | None
    """The better one's place among the topologies; None inside the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRow:
    label: str
    better: str
    """Which direction is better, in words."""
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    label: str
    value: str
    interval: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    other: str
    first: str
    columns: tuple[tuple[str, str], ...]
    """Of the table by load: what, and which direction is better."""
    at_capacity: tuple[RatioRow, ...]
    by_load: tuple[RatioRow, ...]
    crossings: tuple[Crossing, ...]
    differences: tuple[Mapping[str, Any], ...]
    """Findings of what the two should share and do not: they belong beside the answer."""
    findings: tuple[Mapping[str, Any], ...]
    """The others."""


_STEP_RATIOS = (
    ("Output tokens/s", "throughput_ratio", True),
    ("Requests/s", "requests_ratio", True),
    ("TTFT p50", "ttft_p50_ratio", False),
    ("ITL p50", "itl_p50_ratio", False),
    ("E2E p50", "e2e_p50_ratio", False),
)
"""Name, key, whether higher is better."""
_STEP_RATIOS_APART = (
    ("Output tokens/s per GPU", "throughput_per_gpu_ratio", True),
    ("USD per 1M output tokens", "usd_per_million_output_tokens_ratio", False),
)
"""Shown by load only where the hardware differs: else they are the ratio of output tokens/s once more."""
_STEP_RATIOS_MEASURED = (("Output tokens per joule", "output_tokens_per_joule_ratio", True),)
"""Shown only where a step has them."""
_CAPACITY_RATIOS = (
    ("Output tokens/s at capacity", "throughput_ratio", True),
    ("Goodput at capacity", "goodput_ratio", True),
    ("Output tokens/s per GPU", "throughput_per_gpu_ratio", True),
    ("USD per 1M output tokens", "usd_per_million_output_tokens_ratio", False),
    ("Output tokens per joule", "output_tokens_per_joule_ratio", True),
)
_DIFFERENCE = "compare."
_NO_DIFFERENCES = frozenset({"compare.cut_off", "compare.loads"})
"""Of what is not compared at all."""


def versus(one: Mapping[str, Any], places: Mapping[str, int], unit: str) -> Versus:
    """`places`: each topology's place in the plan's order."""
    crossings = (
        ("Throughput is equal near", one["throughput_crossover_load"]),
        ("Median E2E is equal near", one["latency_crossover_load"]),
    )
    by_load = _step_ratios(one)
    differs = [finding for finding in one["findings"] if is_difference(finding)]
    return Versus(
        other=one["other"],
        first=one["first"],
        columns=tuple((label, _better(higher)) for label, _, higher in by_load),
        at_capacity=tuple(
            RatioRow(label=label, better=_better(higher), ratios=(_ratio(one[key], higher, one, places),))
            for label, key, higher in _capacity_ratios(one)
            if one.get(key, {}).get("value") is not None
        ),
        by_load=tuple(
            RatioRow(
                label=view.load_words(step["load"], unit),
                better="",
                ratios=tuple(_ratio(step[key], higher, one, places) for _, key, higher in by_load),
            )
            for step in one["steps"]
        ),
        crossings=tuple(
            Crossing(label=label, value=f"{view.value_only(found)} {unit}", interval=view.bounds(found))
            for label, found in crossings
            if found["low"] is not None  # without an interval it may be noise, and a finding says so
        ),
        differences=tuple(differs),
        findings=tuple(finding for finding in one["findings"] if finding not in differs),
    )


def is_difference(finding: Mapping[str, Any]) -> bool:
    """Whether it says that the two do not share what they should."""
    return str(finding["id"]).startswith(_DIFFERENCE) and finding["id"] not in _NO_DIFFERENCES


def caveats(summary: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Differences of the arms that may decide the answer, to stand right beside it; each once."""
    told = {
        finding["message"]: finding
        for one in summary["comparisons"].values()
        for finding in one["findings"]
        if is_difference(finding) and finding["severity"] == "warning"
    }
    return tuple(told.values())


def _capacity_ratios(one: Mapping[str, Any]) -> tuple[tuple[str, str, bool], ...]:
    """Where the hardware differs, what comes to each GPU and each dollar first."""
    if not one.get("unequal"):
        return _CAPACITY_RATIOS
    return tuple(sorted(_CAPACITY_RATIOS, key=lambda ratio: ratio not in _STEP_RATIOS_APART))


def _step_ratios(one: Mapping[str, Any]) -> tuple[tuple[str, str, bool], ...]:
    apart = tuple(
        ratio for ratio in _STEP_RATIOS_APART if one.get("unequal") and any(s[ratio[1]]["value"] for s in one["steps"])
    )
    measured = tuple(
        ratio for ratio in _STEP_RATIOS_MEASURED if any(s.get(ratio[1], {}).get("value") for s in one["steps"])
    )
    return (*_STEP_RATIOS, *apart, *measured)


def _better(higher: bool) -> str:
    return "higher is better" if higher else "lower is better"


def _ratio(values: Mapping[str, Any], higher: bool, one: Mapping[str, Any], places: Mapping[str, int]) -> Ratio:
    claim = values["claim"]
    winner = None if claim is None else one["other"] if (claim == "higher") is higher else one["first"]
    return Ratio(
        value=view.value_only(values) + ("" if values["value"] is None else "×"),
        interval=view.bounds(values),
        words=view.claim_words(values) if winner is None else f"{winner} better",
        winner=None if winner is None else places[winner],
    )
