"""The grammar of a threshold, `path op number`: pure, so that the plan's parser can refuse a wrong one.

    topologies.tp2x2.capacity.goodput_rps >= 4
    topologies.tp4.steps[load=64].ttft_ms.p99 <= 200
    comparisons.tp2x2_vs_tp4.throughput_ratio.low > 1.0

The path is one of summary.json. In brackets stands an index, or `key=value` for the entry of a list that has it.
`loadstair.analysis.thresholds` evaluates it.
"""

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal["<=", ">=", "==", "!=", "<", ">"]

_THRESHOLD = re.compile(r"^\s*(?P<path>.*?)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<limit>[^<>=!]*?)\s*$")
_SEGMENT = re.compile(
    r"(?P<name>[A-Za-z0-9_-]+)|\[(?:(?P<index>\d{1,6})|(?P<key>[a-z_]+)=(?P<value>[A-Za-z0-9._-]+))\]"
)
ROOTS = ("topologies", "comparisons")


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    index: int


@dataclass(frozen=True, slots=True)
class Having:
    """The entry of a list whose `key` is `value` (compared as a number where it is one)."""

    key: str
    value: str


Segment = Name | Index | Having


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    text: str
    path: tuple[Segment, ...]
    """A name with a dot in it (a topology called qwen2.5) is several segments here: the evaluation joins them."""
    op: Operator
    limit: float


def parse_threshold(text: str) -> Threshold:
    """Raises ValueError, one line that says what would be right."""
    match = _THRESHOLD.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no threshold: write PATH OP NUMBER with one of <=, >=, ==, !=, <, >")
    try:
        limit = float(match["limit"])
    except ValueError:
        raise ValueError(f"{match['limit']!r} in {text!r} is not a number") from None
    if limit != limit or limit in (float("inf"), float("-inf")):
        raise ValueError(f"{match['limit']!r} in {text!r} is not a finite number")
    path = _parse_path(match["path"], text)
    first = path[0]
    if not isinstance(first, Name) or first.name not in ROOTS:
        raise ValueError(f"the path of {text!r} must start with topologies. or comparisons.")
    return Threshold(text=text.strip(), path=path, op=_operator(match["op"]), limit=limit)


def _parse_path(path: str, text: str) -> tuple[Segment, ...]:
    if path.endswith("."):
        raise ValueError(f"the path of {text!r} ends in a dot")
    segments: list[Segment] = []
    position = 0
    while position < len(path):
        if segments and path[position] == ".":
            position += 1
            name_expected = True
        else:
            name_expected = not segments
        match = _SEGMENT.match(path, position)
        if match is None or (match["name"] is not None) != name_expected:
            raise ValueError(
                f"the path of {text!r} goes wrong at {path[position:]!r}: "
                "write names joined by dots, and [0] or [load=64] for an entry",
            )
        if match["name"] is not None:
            segments.append(Name(match["name"]))
        elif match["index"] is not None:
            segments.append(Index(int(match["index"])))
        else:
            segments.append(Having(match["key"], match["value"]))
        position = match.end()
    if not segments:
        raise ValueError(f"{text!r} has no path: write for example topologies.NAME.capacity.output_tokens_per_s >= 100")
    return tuple(segments)


def _operator(text: str) -> Operator:
    operators: tuple[Operator, ...] = ("<=", ">=", "==", "!=", "<", ">")
    return next(operator for operator in operators if operator == text)
