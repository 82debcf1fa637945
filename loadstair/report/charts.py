"""What the charts draw: values picked from summary.json, nothing computed.

The page has one `Figure` for each chart; the data block has its panels. A panel is one of three shapes:

- load: `lines` of `{name, style, dashed, points: [{load, value, low, high, valid, text}]}`, `marks` (knees)
  `{style, load, value, text}`, `spans` (crossovers) `{value, low, high, text}`, `limit` `{value, text}` or null, and
  where they are wanted `ceiling` (of the load generator) `{value, text}`, `physical` (ceilings of the GPUs) of `{style,
  points: [[load, value]]}`, `loads` (of a panel that does not have the
  page's) and `logarithmic` (true);
- time: `lines` of `{name, style, dashed, values, texts}` over `time_s`, with `end_s` and `steps` `{start_s,
  hold_start_s, hold_end_s, text, tip}`, and where they are wanted `rules` of `{at_s, text}` (moments) and `fitted`
  (true: the axis need not begin at 0);
- shares: `parts` of `{name, style, shares, texts}` over `loads` (words).

`style` chooses colour and symbol, `text` is what a tooltip says; `percent` says that the values are shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadstair.report import view

STYLES = 6
"""Colours and symbols there are; a seventh topology has those of the first."""
NEUTRAL = STYLES
"""The style of a line that belongs to no topology."""

Values = Mapping[str, Any]
Panel = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a chart's legend."""

    name: str
    style: int
    dashed: bool = False
    line: bool = False
    """Drawn as a line alone, without a symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    id: str
    title: str
    note: str
    """Below the chart; may be empty."""
    keys: tuple[Key, ...]
    columns: int
    panel_height: int
    panels: tuple[Panel, ...]

    @property
    def label(self) -> str:
        """For those who hear the page."""
        panels = "; ".join(panel["title"] for panel in self.panels)
        return f"Chart: {self.title} ({panels}). The numbers stand in the tables of this page."


def chart_data(summary: Values, figures: Sequence[Figure]) -> dict[str, Any]:
    """The report's data block."""
    return {
        "x": view.load_unit(summary["mode"]),
        "loads": sorted({step["load"] for topology in summary["topologies"].values() for step in topology["steps"]}),
        "figures": figure_data(figures),
    }


def figure_data(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [
        {"id": one.id, "columns": one.columns, "panelHeight": one.panel_height, "panels": list(one.panels)}
        for one in figures
    ]


def topology_keys(summary: Values) -> tuple[Key, ...]:
    return tuple(Key(name=name, style=index % STYLES) for index, name in enumerate(summary["topologies"]))
