"""Thresholds on the summary's values: met, failed, or not to be told because the measurement is invalid."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadstair.plan.threshold import Having, Index, Name, Operator, Segment, Threshold

_COMPARE: Mapping[Operator, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


class ThresholdStatus(StrEnum):
    MET = "met"
    FAILED = "failed"
    INVALID = "invalid"
    """It needs a number that is not there, or one of an invalid step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdResult:
    text: str
    status: ThresholdStatus
    value: float | None
    message: str


def judge_threshold(threshold: Threshold, summary: Mapping[str, object]) -> ThresholdResult:
    """`summary` as in summary.json. An estimate is compared by its value unless the path ends in .low or .high."""

    def invalid(message: str) -> ThresholdResult:
        return ThresholdResult(text=threshold.text, status=ThresholdStatus.INVALID, value=None, message=message)

    found = _follow(summary, threshold.path)
    if found is None:
        return invalid("the summary has no such path: the step or topology was not measured, or a name is wrong")
    bad = next((entry for entry in found if isinstance(entry, Mapping) and entry.get("verdict") == "invalid"), None)
    if bad is not None:
        other = bad.get("id", bad.get("label", "the spike"))
        where = f"the step at load {bad['load']}" if "load" in bad else f"{other}"
        return invalid(f"{where} is invalid")
    last = found[-1]
    value = last.get("value") if isinstance(last, Mapping) else last
    estimate = next((entry for entry in reversed(found) if isinstance(entry, Mapping) and "value" in entry), {})
    if value is None:
        return invalid(_why_unknown(estimate))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return invalid("there is no number at that path")
    met = _COMPARE[threshold.op](value, threshold.limit)
    return ThresholdResult(
        text=threshold.text,
        status=ThresholdStatus.MET if met else ThresholdStatus.FAILED,
        value=float(value),
        message=_measured(float(value), estimate, threshold.limit),
    )


def _why_unknown(estimate: Mapping[str, object]) -> str:
    """What the estimate's own findings say, which name how many samples it needs."""
    findings = estimate.get("findings")
    messages = [str(one["message"]) for one in findings] if isinstance(findings, list) else []
    return "; ".join(messages) or "it is not known: there was nothing to measure it by"


def _measured(value: float, estimate: Mapping[str, object], limit: float) -> str:
    """`measured 36.8 [35.8, 40.7], n 312`; the end of an interval comes with the whole of it.

    The value has as many digits as it takes to tell it from the limit.
    """
    digits = next((n for n in range(4, 17) if float(f"{value:.{n}g}") != limit), 17) if value != limit else 4
    text = f"measured {value:.{digits}g}"
    low, high, n = estimate.get("low"), estimate.get("high"), estimate.get("n")
    if isinstance(low, int | float) and isinstance(high, int | float):
        text += f" [{low:.4g}, {high:.4g}]"
    return f"{text}, n {n}" if isinstance(n, int) else text


def _follow(value: object, path: Sequence[Segment]) -> list[object] | None:
    """All values on the way, the last one last; None where there is no way."""
    if not path:
        return [value]
    match path[0]:
        case Name():
            return _follow_name(value, path)
        case Index(index):
            if not isinstance(value, list) or index >= len(value):
                return None
            rest = _follow(value[index], path[1:])
        case Having(key, wanted):
            entry = next((e for e in value if _has(e, key, wanted)), None) if isinstance(value, list) else None
            if entry is None:
                return None
            rest = _follow(entry, path[1:])
    return None if rest is None else [value, *rest]


def _follow_name(value: object, path: Sequence[Segment]) -> list[object] | None:
    """The longest key that leads to the end: a topology's own name may have dots."""
    if not isinstance(value, Mapping):
        return None
    names: list[str] = []
    for segment in path:
        if not isinstance(segment, Name):
            break
        names.append(segment.name)
    for count in range(len(names), 0, -1):
        key = ".".join(names[:count])
        if key in value:
            rest = _follow(value[key], path[count:])
            if rest is not None:
                return [value, *rest]
    return None


def _has(entry: object, key: str, wanted: str) -> bool:
    if not isinstance(entry, Mapping) or key not in entry:
        return False
    have = entry[key]
    if isinstance(have, int | float):
        try:
            return float(wanted) == have
        except ValueError:
            return False
    return bool(have == wanted)
