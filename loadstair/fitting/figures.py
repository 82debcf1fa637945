"""What is compared of a step: three figures, measured or computed, and how well a measured one is known."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Values = Mapping[str, Any]

Z_95 = 1.96
UNKNOWN_SD = 0.1
"""Of a logarithm, where the summary has no interval that one could take it from."""


class Figure(StrEnum):
    TOKENS_PER_S = "output_tokens_per_s"
    TTFT_MS = "ttft_ms_p50"
    TPOT_MS = "tpot_ms_p50"


@dataclass(frozen=True, slots=True)
class Known:
    """A measured figure above 0, and the standard deviation of its logarithm."""

    value: float
    log_sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """A load of one topology whose hold was valid, all repeats together."""

    topology: str
    load: float
    figures: Mapping[Figure, Known]
    """Without those that are not known."""


def measured_steps(summary: Values) -> tuple[MeasuredStep, ...]:
    """`summary`: the values of a summary.json. The valid steps alone, by rising load within each topology."""
    return tuple(
        MeasuredStep(topology=name, load=step["load"], figures=dict(_figures(step)))
        for name, topology in summary["topologies"].items()
        for step in sorted(topology["steps"], key=lambda step: float(step["load"]))
        if step["verdict"] == "valid"
    )


def _figures(step: Values) -> Iterator[tuple[Figure, Known]]:
    estimates = {
        Figure.TOKENS_PER_S: step["output_tokens_per_s"],
        Figure.TTFT_MS: step["ttft_ms"]["p50"],
        Figure.TPOT_MS: step["tpot_ms"]["p50"],
    }
    for figure, estimate in estimates.items():
        if estimate["value"] is not None and estimate["value"] > 0:
            yield figure, Known(estimate["value"], _log_sd(estimate["low"], estimate["high"]))


def _log_sd(low: float | None, high: float | None) -> float:
    """Of the 95 % interval."""
    if low is None or high is None or low <= 0:
        return UNKNOWN_SD
    return math.log(high / low) / (2 * Z_95)
