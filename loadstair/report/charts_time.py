"""The charts over time, and who served the requests: each of one visit."""

from typing import Any

from loadstair.report import view
from loadstair.report.charts import NEUTRAL, STYLES, Figure, Key, Panel, Values

IN_FLIGHT, RUNNING, WAITING = "in flight (clients)", "running (engines)", "waiting (engines)"


def time_figures(summary: Values) -> tuple[Figure, ...]:
    """One for each topology that was measured: its requests, and its engines' KV use where they tell it."""
    return tuple(
        _time_figure(index, name, told, summary["mode"])
        for index, (name, told) in enumerate(summary["timelines"].items())
        if told is not None
    )


def _time_figure(index: int, name: str, told: Values, mode: str) -> Figure:
    style = index % STYLES
    lines = [_line(IN_FLIGHT, told["in_flight"], NEUTRAL, dashed=False)]
    if told["requests_running"] is not None:
        lines.append(_line(RUNNING, told["requests_running"], style, dashed=False))
    if told["requests_waiting"] is not None:
        lines.append(_line(WAITING, told["requests_waiting"], style, dashed=True))
    panels = [_time_panel("Requests", told, lines, mode, percent=False)]
    if told["kv_usage"] is not None:
        kv_use = _line("KV use", told["kv_usage"], style, dashed=False, text=view.percent)
        panels.append(_time_panel("KV cache in use, share of the fullest engine", told, [kv_use], mode, percent=True))
    return Figure(
        id=f"time-{index}",
        title=f"{name} over time",
        note=_time_note(told, mode),
        keys=tuple(Key(name=line["name"], style=line["style"], dashed=line["dashed"], line=True) for line in lines),
        columns=2,
        panel_height=250,
        panels=tuple(panels),
    )


def _time_note(told: Values, mode: str) -> str:
    which = "One visit" if told["repeats"] == 1 else f"One visit, of the first of {told['repeats']} repeats"
    queue = "" if told["requests_running"] is not None else " The engines told nothing of their queues."
    steps = f"Vertical lines: a step begins, with its {view.load_unit(mode)}; shaded: its hold window."
    return f"{which}, seconds since its first step began. {steps}{queue}"


def _time_panel(title: str, told: Values, lines: list[dict[str, Any]], mode: str, *, percent: bool) -> Panel:
    return {
        "kind": "time",
        "title": title,
        "percent": percent,
        "time_s": told["time_s"],
        "lines": lines,
        "steps": [
            {
                "start_s": step["start_s"],
                "hold_start_s": step["hold_start_s"],
                "hold_end_s": step["hold_end_s"],
                "text": view.load(step["load"]),
                "tip": view.load_words(step["load"], view.load_unit(mode)),
            }
            for step in told["steps"]
        ],
        "end_s": told["steps"][-1]["tail_end_s"],
    }


def _line(name: str, values: Any, style: int, *, dashed: bool, text: Any = view.number) -> dict[str, Any]:
    return {
        "name": name,
        "style": style,
        "dashed": dashed,
        "values": values,
        "texts": [text(value) for value in values],
    }


def balance_figures(summary: Values) -> tuple[Figure, ...]:
    """One for each topology with more than one upstream."""
    return tuple(
        _balance_figure(index, name, told, upstreams, summary["mode"])
        for index, (name, told) in enumerate(summary["timelines"].items())
        if told is not None and len(upstreams := _upstreams(told)) > 1
    )


def _upstreams(told: Values) -> list[str]:
    return sorted({name for step in told["steps"] for name in step["upstreams"]})


def _balance_figure(index: int, name: str, told: Values, upstreams: list[str], mode: str) -> Figure:
    served = [step for step in told["steps"] if step["upstreams"]]
    parts = [
        {
            "name": upstream,
            "style": (place + 2) % STYLES,
            "shares": [step["upstreams"].get(upstream, 0) for step in served],
            "texts": [view.percent(step["upstreams"].get(upstream, 0)) for step in served],
        }
        for place, upstream in enumerate(upstreams)
    ]
    title = f"Share of the requests, by {view.load_unit(mode)}"
    loads = [view.load(step["load"]) for step in served]
    return Figure(
        id=f"balance-{index}",
        title=f"{name}: who served the requests",
        note="Requests of the hold windows, as the balancer tells it"
        + ("." if told["repeats"] == 1 else f"; the first of {told['repeats']} visits."),
        keys=tuple(Key(name=upstream, style=(place + 2) % STYLES) for place, upstream in enumerate(upstreams)),
        columns=1,
        panel_height=250,
        panels=({"kind": "shares", "title": title, "percent": True, "loads": loads, "parts": parts},),
    )
