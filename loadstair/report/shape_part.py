"""What the report has of one topology where the run was no staircase."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadstair.report.charts import Figure
from loadstair.report.steps import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapePart:
    topology: str
    style: int
    figure: Figure
    table: Table
    first: str
    """Heading of the table's first column."""
    notes: tuple[str, ...]
    findings: tuple[Mapping[str, Any], ...]
