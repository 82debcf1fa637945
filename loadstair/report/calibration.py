"""A calibration as a table for the terminal, and as the charts of its page."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.bar import Bar
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from loadstair.report import view
from loadstair.report.charts import Figure, Key, Panel
from loadstair.report.generator import truth_words
from loadstair.samples.calibration import (
    ITL_ERROR_NS_MAX,
    TTFT_ERROR_NS_MAX,
    Calibration,
    CalibrationLevel,
    Timing,
)
from loadstair.units import NS_PER_MS

BAR_WIDTH = 24
WIDTH_MAX = 1000
"""Wider than the table ever is."""
DRAWN_MS_MIN = 0.001
"""An error below a microsecond has no place on a logarithmic axis."""

ErrorText = Callable[[Timing | None], str]
Pick = Callable[[CalibrationLevel], Timing | None]


def calibration_table(calibration: Calibration) -> RenderableType:
    """A row for each level, a bar for its rate, why levels did not hold, then the ceiling in words."""
    ceiling = (Text(line, "bold") for line in ceiling_lines(calibration))
    return Group(_LevelTable(calibration), *(Text(line, "red") for line in failure_lines(calibration)), *ceiling)


class _LevelTable:
    """With whole cells at any width: a narrow terminal gets no bars, and of each error the p99 alone."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        all_three, p99 = (_three, " off, ms\n p50/p99/max"), (_p99, "\n off, ms\n p99")
        layouts = ((*all_three, True), (*all_three, False), (*p99, False))
        tables = [_level_table(self._calibration, *layout) for layout in layouts]
        unbounded = options.update(max_width=WIDTH_MAX)
        fitting = (table for table in tables if Measurement.get(console, unbounded, table).maximum <= options.max_width)
        yield next(fitting, tables[-1])


def _level_table(calibration: Calibration, error: ErrorText, said: str, bars: bool) -> Table:
    table = Table(title="One worker process", title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0)
    for name in (
        "users",
        " chunks/s",
        " offered",
        f" TTFT{said}",
        f" ITL{said}",
        " late\n merges",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(" holds", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True)
    most = max(level.chunks_per_s for level in calibration.levels)
    for level in calibration.levels:
        cells = (
            f" {level.chunks_per_s:,.0f}",
            f" {view.number(level.offered_chunks_per_s)}",
            f" {error(level.ttft)}",
            f" {error(level.itl)}",
            f" {view.percent(level.bunched_late_share)}",
        )
        verdict = Text(" yes ", "green") if level.held else Text(" no ", "bold red")
        bar = Bar(most, 0, level.chunks_per_s, width=BAR_WIDTH, color="green" if level.held else "red")
        table.add_row(Text(str(level.users)), *map(Text, cells), verdict, *((bar,) if bars else ()))
    return table


def failure_lines(calibration: Calibration) -> tuple[str, ...]:
    """Of both staircases: why each level that did not hold did not."""
    return tuple(
        f"{level.users} users{with_what}: {level.why}"
        for levels, with_what in ((calibration.levels, ""), (calibration.request_levels, " with short answers"))
        for level in levels
        if not level.held
    )


def ceiling_lines(calibration: Calibration) -> tuple[str, ...]:
    """The answer, and what bounds it."""
    at = calibration.ceiling
    line = (
        f"ceiling of one worker: {calibration.chunks_per_s:,.0f} token chunks/s (at {at.users} users), "
        f"{calibration.requests_per_s:,.0f} requests/s"
    )
    times = [
        f"{name} off by {view.error_ms(timing.error.p99_ns / NS_PER_MS)} ms"
        for name, timing in (("TTFT", at.ttft), ("ITL", at.itl))
        if timing is not None
    ]
    error = f"timing error there (p99), against {truth_words(calibration.ground_truth)}: {', '.join(times)}"
    bound = (f"a lower bound: {calibration.lower_bound}",) if calibration.lower_bound else ()
    return (line, error, *bound)


def _p99(timing: Timing | None) -> str:
    return view.ABSENT if timing is None else view.error_ms(timing.error.p99_ns / NS_PER_MS)


def _three(timing: Timing | None) -> str:
    if timing is None:
        return view.ABSENT
    error = timing.error
    return "/".join(view.error_ms(ns / NS_PER_MS) for ns in (error.p50_ns, error.p99_ns, error.max_ns))


def calibration_figures(calibration: Calibration) -> tuple[Figure, ...]:
    return (_rates(calibration), _errors(calibration))


def _rates(calibration: Calibration) -> Figure:
    levels = calibration.levels
    chunks = _panel(
        "Token chunks/s",
        levels,
        [
            _line("offered", 1, levels, lambda level: level.offered_chunks_per_s),
            _line("arrived", 0, levels, lambda level: level.chunks_per_s),
        ],
    )
    short = calibration.request_levels
    requests = _panel(
        "Requests/s, with short answers",
        short,
        [_line("completed", 0, short, lambda level: level.requests_per_s)],
    )
    for panel, rate in ((chunks, calibration.chunks_per_s), (requests, calibration.requests_per_s)):
        panel["ceiling"] = {"value": rate, "text": f"ceiling {view.digits(rate)}"}
    return Figure(
        id="rates",
        title="What one worker process carries",
        note="Offered: what so many users get if none of them ever waits for the client. A hollow point did not hold; "
        "why is told below.",
        keys=(Key(name="arrived, completed", style=0), Key(name="offered", style=1)),
        columns=2,
        panel_height=280,
        panels=(chunks, requests),
    )


def _errors(calibration: Calibration) -> Figure:
    return Figure(
        id="errors",
        title="How far its times are off the truth",
        note="Absolute differences to what the server wrote, of every request (TTFT) and every gap (ITL); logarithmic.",
        keys=tuple(Key(name=name, style=style) for style, name in enumerate(("p50", "p99", "max"))),
        columns=2,
        panel_height=280,
        panels=(
            _error_panel("TTFT, ms off", calibration.levels, lambda level: level.ttft, TTFT_ERROR_NS_MAX),
            _error_panel("ITL, ms off", calibration.levels, lambda level: level.itl, ITL_ERROR_NS_MAX),
        ),
    )


def _error_panel(title: str, levels: Sequence[CalibrationLevel], pick: Pick, limit_ns: int) -> Panel:
    def of(name: str) -> Callable[[CalibrationLevel], float | None]:
        def value(level: CalibrationLevel) -> float | None:
            timing = pick(level)
            return None if timing is None else max(DRAWN_MS_MIN, getattr(timing.error, f"{name}_ns") / NS_PER_MS)

        return value

    lines = [_line(name, style, levels, of(name), view.error_ms) for style, name in enumerate(("p50", "p99", "max"))]
    limit = {"value": limit_ns / NS_PER_MS, "text": f"p99 at most {limit_ns / NS_PER_MS:g} ms"}
    return {**_panel(title, levels, lines), "logarithmic": True, "limit": limit}


def _panel(title: str, levels: Sequence[CalibrationLevel], lines: list[dict[str, Any]]) -> Panel:
    return {
        "kind": "load",
        "title": title,
        "percent": False,
        "loads": sorted({level.users for level in levels}),
        "lines": lines,
        "marks": [],
        "spans": [],
        "limit": None,
    }


def _line(
    name: str,
    style: int,
    levels: Sequence[CalibrationLevel],
    value: Callable[[CalibrationLevel], float | None],
    text: Callable[[float], str] = view.digits,
) -> dict[str, Any]:
    points = [
        {"load": level.users, "value": told, "low": None, "high": None, "valid": level.held, "text": text(told)}
        for level in levels
        if (told := value(level)) is not None
    ]
    return {"name": name, "style": style, "dashed": False, "points": points}
