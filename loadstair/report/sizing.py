"""What each topology's GPUs hold, as the report's rows of words."""

from collections.abc import Mapping
from typing import Any

from loadstair.report import view
from loadstair.report.steps import BYTES_PER_GIB, Cell, Row, Table

COLUMNS = (
    *("Weights", "Activations", "CUDA and NCCL", "Room for keys and values", "Budget"),
    *("Requests an engine holds", "All engines"),
)

Values = Mapping[str, Any]


def sizing_table(summary: Values) -> Table | None:
    """None where no topology's model, GPUs and engines are known."""
    rows = [
        _row(name, one)
        for name, groups in (summary.get("sizing") or {}).items()  # not in an older summary
        for one in groups
    ]
    lengths = {one["context_tokens"] for groups in (summary.get("sizing") or {}).values() for one in groups}
    if not rows:
        return None
    tokens = " or ".join(view.count(length) for length in sorted(lengths))
    caption = f"GiB on each GPU; requests of {tokens} tokens, prompt and answer, whose keys and values fit at once"
    return Table(caption=caption, columns=COLUMNS, rows=tuple(rows))


def _row(name: str, one: Values) -> Row:
    sizes = ("weights", "activations", "overhead", "kv_room", "budget")
    held = one["sequences_per_engine"]
    cells = [f"{one[f'{size}_bytes'] / BYTES_PER_GIB:.1f}" for size in sizes]
    cells += [view.count(held), view.count(held * one["engines"])]
    return Row(
        label=name,
        note=f"{one['engines']} × TP{one['tp']}",
        cells=tuple(Cell(value=cell) for cell in cells),
        valid=True,
    )
