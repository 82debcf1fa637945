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
    findings: tuple[Mapping[str, Any], ...]


_STEP_RATIOS = (
    ("Output tokens/s", "throughput_ratio", True),
    ("Requests/s", "requests_ratio", True),
    ("TTFT p50", "ttft_p50_ratio", False),
    ("ITL p50", "itl_p50_ratio", False),
    ("E2E p50", "e2e_p50_ratio", False),
)
"""Name, key, whether higher is better."""
_CAPACITY_RATIOS = (
    ("Output tokens/s at capacity", "throughput_ratio", True),
    ("Goodput at capacity", "goodput_ratio", True),
    ("Output tokens/s per GPU", "throughput_per_gpu_ratio", True),
    ("USD per 1M output tokens", "usd_per_million_output_tokens_ratio", False),
)


def versus(one: Mapping[str, Any], places: Mapping[str, int], unit: str) -> Versus:
    """`places`: each topology's place in the plan's order."""
    crossings = (
        ("Throughput is equal near", one["throughput_crossover_load"]),
        ("Median E2E is equal near", one["latency_crossover_load"]),
    )
    return Versus(
        other=one["other"],
        first=one["first"],
        columns=tuple((label, _better(higher)) for label, _, higher in _STEP_RATIOS),
        at_capacity=tuple(
            RatioRow(label=label, better=_better(higher), ratios=(_ratio(one[key], higher, one, places),))
            for label, key, higher in _CAPACITY_RATIOS
            if one[key]["value"] is not None
        ),
        by_load=tuple(
            RatioRow(
                label=view.load_words(step["load"], unit),
                better="",
                ratios=tuple(_ratio(step[key], higher, one, places) for _, key, higher in _STEP_RATIOS),
            )
            for step in one["steps"]
        ),
        crossings=tuple(
            Crossing(label=label, value=f"{view.value_only(found)} {unit}", interval=view.bounds(found))
            for label, found in crossings
            if found["low"] is not None  # without an interval it may be noise, and a finding says so
        ),
        findings=tuple(one["findings"]),
    )


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
