"""summary.json as a whole, as it was reviewed: what moves in it moves on purpose."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from loadstair.analysis.summary import summary_json
from tests.analysis.synthetic import two_topologies

DIGITS = 6
"""What is kept of a number: the last digits are the processor's."""


def rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
        case float():
            return float(np.format_float_positional(value, DIGITS, fractional=False))
    return value


def test_the_summary_is_as_it_was_reviewed(golden: Callable[[str, str], None]) -> None:
    summary = summary_json(two_topologies().summary())
    del summary["timelines"]  # test_timeline.py has them
    golden("analysis/summary.json", json.dumps(rounded(summary), indent=1) + "\n")
