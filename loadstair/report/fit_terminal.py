"""`loadstair fit` for the terminal: steps, factors, the verdict; the CLI prints it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadstair.report import view

Values = Mapping[str, Any]

FIGURES = {"output_tokens_per_s": "tok/s\n", "ttft_ms_p50": "TTFT\nms p50", "tpot_ms_p50": "TPOT\nms p50"}
HELD_STYLE = "dim"


def fit_text(fit: Values) -> RenderableType:
    """`fit`: as `loadstair fit --json` prints it."""
    topologies = list(dict.fromkeys(step["topology"] for step in fit["steps"]))
    parts: list[RenderableType] = [
        Text(
            f"{fit['run']} of {view.moment(fit['started'])}: {fit['model']} on {', '.join(fit['gpus'])}", style="bold"
        ),
        Text("Each figure: of the run, predicted before the fit, predicted after it", style="dim"),
        Text(),
    ]
    for name in topologies:
        steps = [step for step in fit["steps"] if step["topology"] == name]
        parts.append(_steps(name, steps, view.load_unit(fit["mode"])))
    parts.append(_factors(fit["factors"]))
    parts += [Text(note, style="yellow") for note in fit["notes"]]
    return Group(*parts, Text(fit["words"], style="bold"))


def _steps(topology: str, steps: Sequence[Values], unit: str) -> Table:
    table = _table(topology)
    table.add_column(f"\n\n{unit}", justify="right", no_wrap=True)
    for words in FIGURES.values():
        for column in (f"{words}\nrun", "\n\nbefore", "\n\nafter"):
            table.add_column(column, justify="right", no_wrap=True)
    table.add_column("mean error\n\nfrom → to", justify="right", no_wrap=True)
    for step in steps:
        error = f"{step['error_before']:.1%} → {step['error_after']:.1%}"
        table.add_row(view.load(step["load"]), *_cells(step), error)
    return table


def _cells(step: Values) -> Iterator[str]:
    for key in FIGURES:
        yield from (view.number(step[key][when]) for when in ("measured", "before", "after"))


def _factors(factors: Sequence[Values]) -> Table:
    table = _table("Factors on the shipped constants, which are 1")
    table.add_column("factor", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 %", justify="right", no_wrap=True)
    table.add_column("of")
    for one in factors:
        value = "held" if one["held"] else f"{one['value']:.2f}"
        what = f"{one['words']}: above 1 is {'slower' if one['are_times'] else 'faster'}"
        table.add_row(
            one["name"],
            value,
            f"[{one['low']:.2f}, {one['high']:.2f}]",
            what,
            style=HELD_STYLE if one["held"] else "",
        )
    return table


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)
