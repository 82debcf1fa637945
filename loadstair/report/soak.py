"""A soak: the drift of every series in a table, and the series over the hold."""

from collections.abc import Mapping
from typing import Any

from loadstair.report import view
from loadstair.report.charts import NEUTRAL, STYLES, Figure, Key, Panel, Values
from loadstair.report.shape_part import ShapePart
from loadstair.report.steps import BYTES_PER_GIB, Cell, Row, Table

PERCENTILES = ("p50", "p90", "p99")
LATENCIES = {"ttft_ms": "TTFT, ms", "itl_ms": "ITL, ms", "tpot_ms": "TPOT, ms", "e2e_ms": "E2E, ms"}
OTHERS = {
    "output_tokens_per_s": "Output tokens/s",
    "in_flight": "Requests in flight",
    "error_rate": "Error rate",
    "requests_waiting": "Requests waiting",
    "kv_usage": "KV use of the fullest engine",
    "gpu_memory_bytes": "GPU memory, GiB",
    "engine_memory_bytes": "Engines' host memory, GiB",
}
SHARES = ("error_rate", "kv_usage")


def soak_parts(summary: Values) -> tuple[ShapePart, ...]:
    """One for each topology that was measured."""
    return tuple(
        ShapePart(
            topology=name,
            style=index % STYLES,
            figure=_figure(index, name, told, summary["mode"]),
            table=_table(told),
            first="Series",
            notes=_notes(told),
            findings=tuple(told["findings"]),
        )
        for index, (name, told) in enumerate((summary.get("soak") or {}).items())
        if told is not None
    )


def _notes(told: Values) -> tuple[str, ...]:
    invalid = () if told["verdict"] == "valid" else ("This soak is invalid: the reasons stand with its step, below.",)
    repeats = "" if told["repeats"] == 1 else f" of {told['repeats']} repeats"
    how = (
        f"{len(told['time_s'])} windows of {view.digits(told['window_s'])} s{repeats}. A drift is claimed below a "
        f"p-value of {view.digits(told['claim_level'])} (5 % shared by all series: of so many, one leaves its 95 % "
        "interval by chance) and where it is large enough to matter."
    )
    return (*invalid, how)


def _table(told: Values) -> Table:
    rows = [
        _row(f"{title.removesuffix(', ms')} {percentile}, ms", metric, told[metric][percentile])
        for metric, title in LATENCIES.items()
        for percentile in PERCENTILES
    ]
    rows += [_row(title, name, told[name]) for name, title in OTHERS.items() if name in told]
    return Table(
        caption="Drift over the hold, with 95 % intervals",
        columns=("Mean", "Drift per hour", "Over the hold", "Full in, h", "Shown"),
        rows=tuple(rows),
    )


def _row(label: str, name: str, series: Values) -> Row:
    drift, hours = series["drift_per_hour"], series.get("hours_until_full")
    scale = _scale(name)
    number = view.percent if name in SHARES else view.number
    words = {"rises": "rises", "falls": "falls"}.get(series["claim"] or "", "no drift shown")
    return Row(
        label=label,
        cells=(
            Cell(value=number(_times(series["level"], scale))),
            _cell(drift, scale, number),
            Cell(value=view.percent(series["drift_share"])),
            Cell(value=view.ABSENT) if hours is None else _cell(hours, 1.0, view.number),
            Cell(value=words if drift["value"] is not None else "not known"),
        ),
        valid=True,
        reasons=(),
    )


def _cell(estimate: Values, scale: float, number: Any) -> Cell:
    low, high = _times(estimate["low"], scale), _times(estimate["high"], scale)
    bounds = "" if low is None else f"[{number(low)}, {number(high)}]"
    return Cell(value=number(_times(estimate["value"], scale)), interval=bounds)


def _scale(name: str) -> float:
    return 1 / BYTES_PER_GIB if name.endswith("memory_bytes") else 1.0


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _figure(index: int, name: str, told: Values, mode: str) -> Figure:
    style = index % STYLES
    panels = [
        _panel(told, mode, title, [_line(one, told[metric][one], _look(one, style)) for one in PERCENTILES])
        for metric, title in LATENCIES.items()
    ]
    for key, title in OTHERS.items():
        if key in told:
            text = view.percent if key in SHARES else view.number
            line = _line(title, told[key], (style, False), scale=_scale(key), text=text)
            panel = _panel(told, mode, title, [line], percent=key in SHARES)
            panels.append(panel | {"fitted": key.endswith("memory_bytes")})
    keys = tuple(
        Key(name=one, style=_look(one, style)[0], dashed=_look(one, style)[1], line=True) for one in PERCENTILES
    )
    which = "" if told["repeats"] == 1 else f" The first of {told['repeats']} visits."
    memory = any(panel.get("fitted") for panel in panels)
    return Figure(
        id=f"soak-{index}",
        title=f"{name}: the hold in windows",
        note="Requests by when they were dispatched, seconds since the visit's first step began."
        + which
        + (" Axes of memory do not begin at 0." if memory else ""),
        keys=keys,
        columns=2,
        panel_height=220,
        panels=tuple(panels),
    )


def _look(percentile: str, style: int) -> tuple[int, bool]:
    """Style, and whether dashed."""
    return {"p50": (style, False), "p90": (NEUTRAL, False), "p99": (style, True)}[percentile]


def _line(
    name: str, series: Mapping[str, Any], look: tuple[int, bool], *, scale: float = 1.0, text: Any = view.number
) -> dict[str, Any]:
    values = [_times(value, scale) for value in series["values"]]
    return {
        "name": name,
        "style": look[0],
        "dashed": look[1],
        "values": values,
        "texts": [text(value) for value in values],
    }


def _panel(told: Values, mode: str, title: str, lines: list[dict[str, Any]], *, percent: bool = False) -> Panel:
    start_s = told["time_s"][0] - told["window_s"] / 2
    end_s = told["time_s"][-1] + told["window_s"] / 2
    step = {
        "start_s": start_s,
        "hold_start_s": start_s,
        "hold_end_s": end_s,
        "text": "",
        "tip": view.load_words(told["load"], view.load_unit(mode)),
    }
    return {
        "kind": "time",
        "title": title,
        "percent": percent,
        "time_s": told["time_s"],
        "lines": lines,
        "steps": [step],
        "end_s": end_s,
    }
