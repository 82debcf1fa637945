"""The closing table for the terminal; the CLI prints it."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadstair.report import view
from loadstair.report.matrix_terminal import matrix_tables
from loadstair.report.told import told_once
from loadstair.report.versus import caveats

_SEVERITY_STYLE = {"invalid": "bold red", "warning": "yellow"}
LINES_MAX = 8
"""Of reasons, and of findings: below a table more are not read, and the report has them all."""


def closing_table(summary_json: Mapping[str, Any]) -> RenderableType:
    """One row per load, for each topology its throughput, latency and verdict; then what counts as the answer.

    All strings are printed as they are: no markup of rich's is read from them.
    """
    if summary_json.get("matrix") is not None:
        return Group(*matrix_tables(summary_json), *_closing(summary_json, advised=False))
    topologies = summary_json["topologies"]
    table = Table(
        title=Text(view.run_name(summary_json)), title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0
    )
    table.add_column(view.load_unit(summary_json["mode"]), justify="right", no_wrap=True)
    for name in topologies:
        table.add_column(Text(f" {name}\n tok/s"), justify="right", no_wrap=True)
        table.add_column(" TTFT ms\n p50/p99", justify="right", no_wrap=True)
        table.add_column(" ITL ms\n p50", justify="right", no_wrap=True)
    table.add_column(" \n verdict", no_wrap=True)
    by_load = {name: {step["load"]: step for step in topology["steps"]} for name, topology in topologies.items()}
    for load in sorted({load for steps in by_load.values() for load in steps}):
        cells: list[Text] = []
        for steps in by_load.values():
            cells += _cells(steps.get(load))
        table.add_row(
            Text(view.load(load)), *cells, _verdict({name: steps.get(load) for name, steps in by_load.items()})
        )
    return Group(table, *_reasons(topologies, view.load_unit(summary_json["mode"])), *_closing(summary_json))


def _cells(step: Mapping[str, Any] | None) -> list[Text]:
    if step is None:
        return [Text(view.ABSENT)] * 3
    ttft = step["ttft_ms"]
    texts = (
        view.plus_minus(step["output_tokens_per_s"]),
        f"{view.value_only(ttft['p50'])}/{view.value_only(ttft['p99'])}",
        view.value_only(step["itl_ms"]["p50"]),
    )
    style = "" if step["verdict"] == "valid" else "dim"
    return [Text(f" {text}", style=style) for text in texts]


def _verdict(steps: Mapping[str, Mapping[str, Any] | None]) -> Text:
    """`valid` where every topology's step is; otherwise whose is not."""
    invalid = [name for name, step in steps.items() if step is not None and step["verdict"] != "valid"]
    return Text(f" invalid: {', '.join(invalid)}", style="bold red") if invalid else Text(" valid", style="green")


def _reasons(topologies: Mapping[str, Any], unit: str) -> list[Text]:
    lines = [
        f"{name} {reason}" for name, topology in topologies.items() for reason in told_once(topology, "reasons", unit)
    ]
    return _shortened([Text(line, style=_SEVERITY_STYLE["invalid"]) for line in lines])


def _shortened(lines: list[Text]) -> list[Text]:
    left = len(lines) - LINES_MAX
    return lines if left <= 0 else [*lines[:LINES_MAX], Text(f"… {left} more: see the report", style="dim")]


def _closing(summary: Mapping[str, Any], *, advised: bool = True) -> list[Text]:
    told = [*caveats(summary), *summary["findings"]]
    gravest_first = sorted(told, key=lambda finding: finding["severity"] == "info")
    lines = _shortened(
        [
            Text(f"{finding['severity']}: {finding['message']}", style=_SEVERITY_STYLE.get(finding["severity"], ""))
            for finding in gravest_first
        ]
    )
    for result in summary["thresholds"]:
        style = "green" if result["status"] == "met" else "bold red"
        lines.append(Text(f"threshold {result['status']}: {result['text']} ({result['message']})", style=style))
    return [*lines, Text(summary["advice"], style="bold")] if advised else lines
