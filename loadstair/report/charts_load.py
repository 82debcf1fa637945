"""The charts against load: the answer's, the percentiles, the requests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadstair.report import view
from loadstair.report.charts import STYLES, Figure, Panel, Values, topology_keys

PERCENTILES = ("p50", "p90", "p99")
LATENCIES = (
    ("ttft", "Time to first token (TTFT)"),
    ("ttft_due", "Time to first token, from the time at which the request was due"),
    ("itl", "Inter-token latency (ITL)"),
    ("tpot", "Time per output token (TPOT)"),
    ("e2e", "End to end (E2E)"),
)
MS_PER_S = 1000.0
PHYSICAL = "physical_ceiling_tokens_per_s"
CEILING_REACH = 2.0
"""Times the highest value: a ceiling above that would press the lines to the ground, and is told in words."""

Words = Callable[[Values], str]

_BANDS = "Bands and bars are 95 % intervals, cut off where they leave the panel."
_WHY_P50 = " TTFT p50 is drawn too where a p99 is unknown: it needs 100 requests."
_PERCENTILE_NOTE = f"Each panel has a scale of its own. A p99 needs 100 samples, its interval 500. {_BANDS}"


def answer_figure(summary: Values) -> Figure:
    """Throughput and TTFT p99 against load, one above the other; p50 dashed where a p99 is missing."""
    unit = view.load_unit(summary["mode"])
    p99 = _load_panel(summary, "TTFT p99, ms", ("ttft_ms", "p99"), _limit(summary, "ttft", "p99"))
    short = [line["name"] for line in p99["lines"] if _lacks(summary["topologies"][line["name"]], "p99")]
    if short:
        p99["title"] = _titled("TTFT, ms: p99, dashed p50", p99["limit"])
        p99["lines"] += _lines(summary, ("ttft_ms", "p50"), only=short, dashed=True)
    throughput = _load_panel(summary, "Output tokens/s", ("output_tokens_per_s",), None)
    throughput["marks"] = _knees(summary)
    throughput["spans"] = _crossovers(summary, unit)
    throughput["ceiling"], ceiling_note = _ceiling(summary, throughput, "ceiling_tokens_per_s")
    throughput["physical"] = _physical(summary)
    throughput["predicted"] = _predicted(summary)
    return Figure(
        id="answer",
        title=f"Throughput and time to first token against {unit}",
        note="".join(
            [
                _BANDS,
                _about_invalid(summary),
                _about_marks(throughput),
                _about_physical(summary),
                _about_predicted(throughput),
                _WHY_P50 if short else "",
                ceiling_note,
            ]
        ),
        keys=topology_keys(summary),
        columns=1,
        panel_height=270,
        panels=(throughput, p99),
    )


def latency_figures(summary: Values) -> tuple[Figure, ...]:
    """One for each latency that was measured: p50, p90 and p99 side by side, each on a scale of its own."""
    steps = [step for topology in summary["topologies"].values() for step in topology["steps"]]
    measured = [(metric, title) for metric, title in LATENCIES if any(f"{metric}_ms" in step for step in steps)]
    return tuple(
        Figure(
            id=metric,
            title=f"{title}, ms",
            note=_PERCENTILE_NOTE if place == 0 else "",
            keys=topology_keys(summary),
            columns=3,
            panel_height=230,
            panels=tuple(
                _load_panel(summary, name, (f"{metric}_ms", name), _limit(summary, metric, name))
                for name in PERCENTILES
            ),
        )
        for place, (metric, title) in enumerate(measured)
    )


def requests_figure(summary: Values) -> Figure:
    """Completed requests, those within the SLO where there is one, and the share that failed."""
    panels = [
        _load_panel(summary, "Completed requests/s", ("requests_per_s",), None),
        _load_panel(summary, "Goodput, requests/s within the SLO", ("goodput_rps",), None),
        _load_panel(summary, "Failed requests, share", ("error_rate",), _error_limit(summary), text=view.share),
    ]
    panels[0]["ceiling"], _ = _ceiling(summary, panels[0], "ceiling_requests_per_s")
    failed = _values(panels[-1])
    no_failure = "No request failed." if failed and not any(failed) else ""
    told = tuple(panel for panel in panels if _values(panel) and not (panel is panels[-1] and no_failure))
    return Figure(
        id="requests",
        title="Requests and goodput",
        note=no_failure,
        keys=topology_keys(summary),
        columns=3,
        panel_height=230,
        panels=told or (panels[0],),
    )


def _ceiling(summary: Values, panel: Panel, key: str) -> tuple[dict[str, Any] | None, str]:
    """The load generator's ceiling as a line, and a sentence where it lies too far above the values to be drawn."""
    generator = summary["generator"]
    if generator is None or generator["ground_truth"] != "native":  # what the simulated engine carried is none
        return None, ""
    value, text = generator[key], f"load generator's ceiling {view.digits(generator[key])}"
    if value <= CEILING_REACH * max(_values(panel), default=0.0):
        return {"value": value, "text": text}, ""
    return None, f" The {text} lies far above."


def _physical(summary: Values) -> list[dict[str, Any]]:
    """What each topology's GPUs can do at all; it takes part in no axis, so much of it may lie above the panel."""
    return [
        {"style": index % STYLES, "points": points}
        for index, topology in enumerate(summary["topologies"].values())
        if (points := [[step["load"], value] for step in topology["steps"] if (value := _physical_ceiling(step))])
    ]


def _physical_ceiling(step: Values) -> float | None:
    found: float | None = step.get(PHYSICAL)  # not in an older summary
    return found


def _about_physical(summary: Values) -> str:
    shares = [
        step["output_tokens_per_s"]["value"] / ceiling
        for topology in summary["topologies"].values()
        for step in topology["steps"]
        if (ceiling := _physical_ceiling(step)) and step["output_tokens_per_s"]["value"] is not None
    ]
    if not shares:
        return ""
    low, high = view.percent(min(shares)), view.percent(max(shares))
    what = "is predicted" if view.is_predicted(summary) else "was measured"
    return f" Dotted: what the GPUs' data sheets allow at most; {low} to {high} of it {what}."


def _predicted(summary: Values) -> list[dict[str, Any]]:
    """What the forecast said of the steps, with a line for each topology of which it said anything."""
    return [
        {"style": index % STYLES, "points": points}
        for index, topology in enumerate(summary["topologies"].values())
        if (
            points := [
                [step["load"], told["output_tokens_per_s"]]
                for step in topology["steps"]
                if (told := step.get("predicted")) and told["output_tokens_per_s"] is not None  # not in older summaries
            ]
        )
    ]


def _about_predicted(panel: Panel) -> str:
    return " Dashed: what the forecast said." if panel["predicted"] else ""


def _values(panel: Panel) -> list[float]:
    """Those that are known: a goodput of 0 is one, and the worst there is."""
    return [point["value"] for line in panel["lines"] for point in line["points"] if point["value"] is not None]


def _load_panel(
    summary: Values, title: str, path: tuple[str, ...], limit: Values | None, text: Words = view.estimate
) -> Panel:
    return {
        "kind": "load",
        "title": _titled(title, limit),
        "percent": text is view.share,
        "lines": _lines(summary, path, text=text),
        "marks": [],
        "spans": [],
        "limit": limit,
    }


def _titled(title: str, limit: Values | None) -> str:
    """With the limit's words: where it is far above the values its line is not drawn."""
    return title if limit is None else f"{title} ({limit['text']})"


def _lines(
    summary: Values,
    path: tuple[str, ...],
    *,
    only: Sequence[str] | None = None,
    dashed: bool = False,
    text: Words = view.estimate,
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "style": index % STYLES,
            "dashed": dashed,
            "points": [point for step in topology["steps"] if (point := _point(step, path, text))],
        }
        for index, (name, topology) in enumerate(summary["topologies"].items())
        if only is None or name in only
    ]


def _point(step: Values, path: tuple[str, ...], text: Words) -> dict[str, Any] | None:
    """None where the step's value is unknown."""
    found: Any = step
    for key in path:
        found = found.get(key)
        if found is None:
            return None
    if found["value"] is None:
        return None
    return {
        "load": step["load"],
        "value": found["value"],
        "low": found["low"],
        "high": found["high"],
        "valid": step["verdict"] == "valid",
        "text": text(found) + ("" if step["verdict"] == "valid" else " (invalid)"),
    }


def _lacks(topology: Values, percentile: str) -> bool:
    return any(step["ttft_ms"][percentile]["value"] is None for step in topology["steps"])


def _knees(summary: Values) -> list[dict[str, Any]]:
    marks = []
    for index, topology in enumerate(summary["topologies"].values()):
        knee = topology["capacity"]["knee_load"]
        for step in topology["steps"]:
            if knee is not None and step["load"] == knee:
                value = step["output_tokens_per_s"]["value"]
                marks.append({"style": index % STYLES, "load": knee, "value": value, "text": "knee"})
    return marks


def _crossovers(summary: Values, unit: str) -> list[dict[str, Any]]:
    """Those with an interval: without one it may be noise, and a finding says so."""
    return [
        {
            "value": found["value"],
            "low": found["low"],
            "high": found["high"],
            "text": f"{one['first']} = {one['other']} near {view.two_digits(found['value'])} {unit}",
        }
        for one in summary["comparisons"].values()
        if (found := one["throughput_crossover_load"])["low"] is not None
    ]


def _about_invalid(summary: Values) -> str:
    verdicts = {step["verdict"] for topology in summary["topologies"].values() for step in topology["steps"]}
    return " A hollow point is an invalid step, shown and never used." if "invalid" in verdicts else ""


def _about_marks(panel: Panel) -> str:
    knees = " A ring marks the knee: further load gains little there." if panel["marks"] else ""
    spans = " The shaded column is where the throughputs cross, with its interval." if panel["spans"] else ""
    return knees + spans


def _limit(summary: Values, metric: str, percentile: str) -> dict[str, Any] | None:
    """The SLO's limit of this percentile, in ms."""
    limits = _limits(summary)
    if (limit := limits.get(f"{metric}_ms_{percentile}")) is None:
        limit_s = limits.get(f"{metric}_s_{percentile}")
        limit = None if limit_s is None else limit_s * MS_PER_S
    return None if limit is None else {"value": limit, "text": f"SLO {view.digits(limit)} ms"}


def _error_limit(summary: Values) -> dict[str, Any] | None:
    limit = _limits(summary).get("error_rate_max")
    return None if limit is None else {"value": limit, "text": f"SLO {view.percent(limit)}"}


def _limits(summary: Values) -> Mapping[str, float]:
    """By name, as the plan has them; every step tells all of them."""
    for topology in summary["topologies"].values():
        for step in topology["steps"]:
            return {limit["name"]: limit["limit"] for limit in step["slo"]}
    return {}
