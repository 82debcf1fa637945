"""Recorded arrivals from a file: JSON lines or CSV, in one of the layouts that are known by their columns."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadstair.errors import UsageError
from loadstair.plan.arrivals import Arrivals, Trace
from loadstair.plan.model import ArrivalKind, Load, LoadMode

SPAN_S_MIN: Final = 1e-6
"""From the first arrival to the last: a shorter one has no rate."""
ROWS_MAX: Final = 1_000_000
TOKENS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Column names, and the unit of the arrival's time."""

    name: str
    time: str
    input_tokens: str
    output_tokens: str
    per_s: float = 1.0


LAYOUTS: Final = (
    Layout(name="Loadstair", time="offset_s", input_tokens="input_tokens", output_tokens="output_tokens"),
    Layout(name="Mooncake", time="timestamp", input_tokens="input_length", output_tokens="output_length", per_s=1000.0),
    Layout(name="BurstGPT", time="Timestamp", input_tokens="Request tokens", output_tokens="Response tokens"),
)
"""Mooncake (github.com/kvcache-ai/Mooncake) has JSON lines with milliseconds, BurstGPT (github.com/HPMLL/BurstGPT) CSV
with seconds, in which a failed request has 0 response tokens. The first layout may lack its lengths."""


class _RowError(Exception):
    """`str()` says where in the file, and what is wrong."""


def arrivals_of(load: Load, plan_dir: Path) -> Arrivals | None:
    """None in a closed loop. Raises UsageError where the trace cannot be used."""
    if load.mode is not LoadMode.OPEN:
        return None
    trace = None if load.trace is None else read_trace(plan_dir / load.trace)
    return Arrivals(kind=load.arrivals or ArrivalKind.POISSON, burstiness=load.burstiness or 1.0, trace=trace)


def read_trace(path: Path) -> Trace:
    """Raises UsageError, with the line, where it is no trace."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = sorted(_rows(file), key=lambda row: row[0])
    except OSError as error:
        raise UsageError(f"load.trace: {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"load.trace: {path}: is not UTF-8 text") from error
    except (_RowError, csv.Error) as error:
        raise UsageError(f"load.trace: {path}: {error}") from error
    if len(rows) < 2 or rows[-1][0] - rows[0][0] < SPAN_S_MIN:
        raise UsageError(f"load.trace: {path}: needs two arrivals at different times at least (a microsecond apart)")
    times_s, inputs, outputs = zip(*rows, strict=True)
    return Trace(
        offsets_s=tuple(time_s - times_s[0] for time_s in times_s),
        input_tokens=_column(inputs),
        output_tokens=_column(outputs),
    )


Row = tuple[float, int | None, int | None]


def _rows(file: Iterator[str]) -> Iterator[Row]:
    layout = None
    number = 0
    for number, (line, row) in enumerate(_raw_rows(file), start=1):
        if number > ROWS_MAX:
            raise _RowError(f"line {line}: more than {ROWS_MAX:,} arrivals; cut it")
        layout = layout or _layout(row)
        lengths = [_tokens(row.get(name), line, name) for name in (layout.input_tokens, layout.output_tokens)]
        yield _number(row.get(layout.time), line, layout.time) / layout.per_s, lengths[0], lengths[1]
    if not number:
        raise _RowError("is empty")


def _raw_rows(file: Iterator[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Each with its line's number."""
    lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    number, first = next(lines, (1, ""))
    if not first.lstrip().startswith("{"):
        header = [name.strip() for name in next(csv.reader([first]), [])]
        for number, line in lines:
            yield number, dict(zip(header, next(csv.reader([line])), strict=False))
        return
    while first:
        try:
            row = json.loads(first)
        except ValueError as error:
            raise _RowError(f"line {number}: is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise _RowError(f"line {number}: is not a JSON object")
        yield number, row
        number, first = next(lines, (number, ""))


def _layout(row: Mapping[str, object]) -> Layout:
    for layout in LAYOUTS:
        if layout.time in row and (layout is LAYOUTS[0] or layout.input_tokens in row):
            return layout
    known = "; ".join(f"{one.time}, {one.input_tokens}, {one.output_tokens} ({one.name})" for one in LAYOUTS)
    raise _RowError(f"has the columns {', '.join(row) or 'none'}; known are {known}")


def _number(value: object, line: int, name: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise _RowError(f"line {line}: {name}: {value!r} is not a number of at least 0")
    return number


def _tokens(value: object, line: int, name: str) -> int | None:
    """At least one: a request without a token cannot be sent, nor answered."""
    if value is None or value == "":
        return None
    tokens = _number(value, line, name)
    if tokens > TOKENS_MAX:
        raise _RowError(f"line {line}: {name}: {tokens:g} tokens are more than {TOKENS_MAX:,}")
    return max(1, round(tokens))


def _column(lengths: Sequence[int | None]) -> tuple[int, ...] | None:
    """None unless each row has a length."""
    told = tuple(length for length in lengths if length is not None)
    return told if len(told) == len(lengths) else None
