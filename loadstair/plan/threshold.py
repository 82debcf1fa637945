"""The grammar of a threshold, `path op number`: pure, so that the plan's parser can refuse a wrong one.

    topologies.tp2x2.capacity.goodput_rps >= 4
    topologies.tp4.steps[load=64].ttft_ms.p99 <= 200
    comparisons.tp2x2_vs_tp4.throughput_ratio.low > 1.0
    soak.tp4.ttft_ms.p99.drift_per_hour.high <= 5
    spike.tp4.recovery_s <= 10
    matrix.tp4.tests[id=T6].latency_ratio <= 2

The path is one of summary.json; in brackets stands an index, or `key=value` for the entry of a list that has it.
`unknown_segment` tells beforehand where it leads nowhere, `loadstair.analysis.thresholds` evaluates it.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadstair.plan.model import LoadShape
from loadstair.plan.summary_shape import COMPARISON, MATRIX, SOAK, SPIKE, TOPOLOGY, Entries, Leaf, Named, Shape

Operator = Literal["<=", ">=", "==", "!=", "<", ">"]

_THRESHOLD = re.compile(r"^\s*(?P<path>.*?)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<limit>[^<>=!]*?)\s*$")
_SEGMENT = re.compile(
    r"(?P<name>[A-Za-z0-9_-]+)|\[(?:(?P<index>\d{1,6})|(?P<key>[a-z_]+)=(?P<value>[A-Za-z0-9._-]+))\]"
)
ROOTS = ("topologies", "comparisons", "soak", "spike", "matrix")


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
PlanKeys = Mapping[str, Sequence[str]]
"""What the entries of a list that the plan knows are chosen by, and its values: the loads, a matrix's test ids."""


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
        raise ValueError(f"the path of {text!r} must start with topologies., comparisons., soak., spike. or matrix.")
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


def unknown_segment(
    threshold: Threshold,
    *,
    topologies: Sequence[str],
    loads: Sequence[float],
    shape: LoadShape = LoadShape.STAIRCASE,
    tests: Sequence[str] = (),
) -> str | None:
    """Where the path leaves what summary.json will hold, in one line that says what would be right.

    None if it leads to a number. `topologies` by name, `loads` and the ids of a matrix's `tests`, in the plan's order.
    """
    first, *others = topologies
    root: Shape = {
        "topologies": dict.fromkeys(topologies, TOPOLOGY),
        # A surge is no steady load: there is nothing to compare at it.
        "comparisons": dict.fromkeys(
            (f"{other}_vs_{first}" for other in others if shape is not LoadShape.SPIKE), COMPARISON
        ),
        "soak": dict.fromkeys(topologies if shape is LoadShape.SOAK else (), SOAK),
        "matrix": dict.fromkeys(topologies if tests else (), MATRIX),
        "spike": dict.fromkeys(topologies if shape is LoadShape.SPIKE else (), SPIKE),
    }
    return _wrong(root, threshold.path, "", {"load": [f"{load:.15g}" for load in loads], "id": tests})


def _wrong(shape: Shape, path: Sequence[Segment], at: str, keys: PlanKeys) -> str | None:
    """`at`: the part of the path that led to `shape`."""
    if not path:
        return _no_number(shape, at, keys)
    segment, rest = path[0], path[1:]
    if isinstance(segment, Name):
        return _wrong_name(shape, path, at, keys)
    if not isinstance(shape, Entries):
        return f"{at} is no list"
    if isinstance(segment, Index):
        entries = keys[shape.key] if shape.key else None
        if entries is not None and segment.index >= len(entries):
            return f"{at} has {len(entries)} entries, the first is [0]: write {at}[{shape.key}={entries[0]}]"
        return _wrong(shape.entry, rest, f"{at}[{segment.index}]", keys)
    if isinstance(shape.entry, Mapping) and segment.key not in shape.entry:
        return f"the entries of {at} have no {segment.key}{_known(segment.key, shape.entry)}"
    if segment.key == shape.key and not _among(segment, keys[segment.key]):
        one, all_ = ("load", "steps") if shape.key == "load" else ("test", "tests")
        return f"the plan has no {one} {segment.value}; its {all_} are {', '.join(keys[shape.key])}"
    return _wrong(shape.entry, rest, f"{at}[{segment.key}={segment.value}]", keys)


def _wrong_name(shape: Shape, path: Sequence[Segment], at: str, keys: PlanKeys) -> str | None:
    match shape:
        case Leaf():
            return f"{at} has nothing below it"
        case Named():
            return None if all(isinstance(segment, Name) for segment in path) else f"{at} holds numbers by name"
        case Entries():
            return _choose(shape, at, keys)
    names: list[str] = []
    for segment in path:
        if not isinstance(segment, Name):
            break
        names.append(segment.name)
    wrong: list[str] = []
    for count in range(len(names), 0, -1):  # the longest first: a topology's own name may have dots
        key = ".".join(names[:count])
        if key in shape:
            found = _wrong(shape[key], path[count:], f"{at}.{key}" if at else key, keys)
            if found is None:
                return None
            wrong.append(found)
    if wrong:
        return wrong[0]
    if at in ROOTS:
        return f"the plan gives no such {at}; it gives {', '.join(shape) or 'none'}"
    return f"{at} has no {names[0]}{_known(names[0], shape)}"


def _no_number(shape: Shape, at: str, keys: PlanKeys) -> str | None:
    match shape:
        case Leaf.NUMBER:
            return None
        case Leaf.OTHER:
            return f"{at} is no number"
        case Named():
            return f"{at} is no number: add one of its names"
        case Entries():
            return _choose(shape, at, keys)
    # An estimate stands for its value.
    return None if "value" in shape else f"{at} is no number: add one of {', '.join(shape)}"


def _choose(entries: Entries, at: str, keys: PlanKeys) -> str:
    entry = f"{entries.key}={keys[entries.key][0]}" if entries.key else 0
    return f"{at} is a list: choose an entry, as in {at}[{entry}]"


def _known(name: str, shape: Mapping[str, Shape]) -> str:
    near = difflib.get_close_matches(name, shape, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(shape)}"


def _among(chosen: Having, entries: Sequence[str]) -> bool:
    if chosen.key != "load":
        return chosen.value in entries
    return _number(chosen.value) in [float(load) for load in entries]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _operator(text: str) -> Operator:
    operators: tuple[Operator, ...] = ("<=", ">=", "==", "!=", "<", ">")
    return next(operator for operator in operators if operator == text)
