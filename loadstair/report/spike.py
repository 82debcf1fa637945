"""A spike: how long until the SLO held again, and what the requests saw meanwhile."""

from typing import Any

from loadstair.report import view
from loadstair.report.charts import NEUTRAL, STYLES, Figure, Key, Panel, Values
from loadstair.report.shape_part import ShapePart
from loadstair.report.steps import Cell, Row, Table


def spike_parts(summary: Values) -> tuple[ShapePart, ...]:
    """One for each topology that was measured to the end."""
    return tuple(
        ShapePart(
            topology=name,
            style=index % STYLES,
            figure=_figure(index, name, told, summary["mode"]),
            table=_table(told),
            first="Repeat",
            notes=_notes(told, summary["mode"]),
            findings=(*told["recovery_s"].get("findings", ()), *told["findings"]),
        )
        for index, (name, told) in enumerate((summary.get("spike") or {}).items())
        if told is not None
    )


def _notes(told: Values, mode: str) -> tuple[str, ...]:
    unit = view.load_unit(mode)
    surge = f"From {view.load_words(told['usual_load'], unit)} to {view.load_words(told['surge_load'], unit)} and back."
    if told["verdict"] != "valid":
        return (f"{surge} This spike is invalid, and no answer: the reasons stand with its steps, below.",)
    recovery = told["recovery_s"]
    if recovery["value"] is None:
        at_least = f"{view.digits(told['recovery_s_at_least'])} s" if told["recovered_share"] < 1 else view.ABSENT
        return (f"{surge} Time until the SLO held again: not known; watched for {at_least}.",)
    return (f"{surge} Time from the surge's end until the SLO held again: {view.estimate(recovery, ' s')}.",)


def _table(told: Values) -> Table:
    return Table(
        caption="The surge, by repeat",
        columns=(
            "SLO lost after, s",
            "Held again after, s",
            "Watched for, s",
            "TTFT p90 at worst, ms",
            "TTFT p99 at worst, ms",
            "Beyond the limits in the surge",
            "Failed",
            "Waiting at most",
        ),
        rows=tuple(_row(visit) for visit in told["visits"]),
    )


def _row(visit: Values) -> Row:
    lost, recovery = visit["lost_s"], visit["recovery_s"]
    return Row(
        label=str(visit["repeat"] + 1),
        cells=(
            Cell(value="never" if lost is None else view.number(lost)),
            Cell(value=_recovery(lost, recovery)),
            Cell(value=view.number(visit["observed_s"])),
            Cell(value=view.number(visit["ttft_ms_p90_peak"])),
            Cell(value=view.number(visit["ttft_ms_p99_peak"])),
            Cell(value=view.percent(visit["share_beyond"])),
            Cell(value=f"{view.count(visit['failed'])} of {view.count(visit['requests'])}"),
            Cell(value=view.number(visit["waiting_peak"])),
        ),
        valid=True,
        reasons=(),
    )


def _recovery(lost_s: float | None, recovery_s: float | None) -> str:
    if recovery_s is None:
        return "not seen"
    if lost_s is None:
        return view.ABSENT
    return "within the surge" if recovery_s == 0 else view.number(recovery_s)


def _figure(index: int, name: str, told: Values, mode: str) -> Figure:
    style, course = index % STYLES, told["course"]
    ttft = [_line("p50", course["ttft_ms_p50"], style), _line("p90", course["ttft_ms_p90"], style, dashed=True)]
    requests = [_line("in flight (clients)", course["in_flight"], NEUTRAL)]
    if course["requests_waiting"] is not None:
        requests.append(_line("waiting (engines)", course["requests_waiting"], style, dashed=True))
    beyond = [_line("beyond", course["share_beyond"], style, text=view.percent)]
    keys = tuple(
        Key(name=one["name"], style=one["style"], dashed=one["dashed"], line=True) for one in (*ttft, *requests)
    )
    which = "" if len(told["visits"]) == 1 else f" The first of {len(told['visits'])} visits."
    return Figure(
        id=f"spike-{index}",
        title=f"{name}: before, during and after the surge",
        note="Requests by when they were dispatched, seconds since the visit's first step began; shaded: the surge. "
        f"Dashed rules: when the SLO was lost, and when it held again.{which}",
        keys=keys,
        columns=1,
        panel_height=220,
        panels=(
            _panel(told, mode, "TTFT, ms", ttft),
            _panel(told, mode, "Failed, or beyond what the SLO asks of each request", beyond, percent=True),
            _panel(told, mode, "Requests", requests),
        ),
    )


def _line(name: str, values: Any, style: int, *, dashed: bool = False, text: Any = view.number) -> dict[str, Any]:
    return {
        "name": name,
        "style": style,
        "dashed": dashed,
        "values": values,
        "texts": [text(value) for value in values],
    }


def _panel(told: Values, mode: str, title: str, lines: list[dict[str, Any]], *, percent: bool = False) -> Panel:
    course, unit, visit = told["course"], view.load_unit(mode), told["visits"][0]
    start_s, end_s = course["surge_start_s"], course["surge_end_s"]
    rules = []
    if visit["lost_s"] is not None:
        rules.append({"at_s": start_s + visit["lost_s"], "text": "SLO lost"})
        if visit["recovery_s"]:
            rules.append({"at_s": end_s + visit["recovery_s"], "text": "holds again"})
    tips = [view.load_words(told[key], unit) for key in ("usual_load", "surge_load", "usual_load")]
    before = {"start_s": 0, "hold_start_s": 0, "hold_end_s": 0, "text": "", "tip": tips[0]}
    surge = {"start_s": start_s, "hold_start_s": start_s, "hold_end_s": end_s, "text": "surge", "tip": tips[1]}
    after = {"start_s": end_s, "hold_start_s": end_s, "hold_end_s": end_s, "text": "", "tip": tips[2]}
    return {
        "kind": "time",
        "title": title,
        "percent": percent,
        "time_s": course["time_s"],
        "lines": lines,
        "steps": [before, surge, after],
        "rules": rules,
        "end_s": course["time_s"][-1] + course["interval_s"] / 2,
    }
