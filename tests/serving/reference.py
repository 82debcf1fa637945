"""The figures that the package must reproduce: see data/README.md for where they come from."""

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
Rows = list[dict[str, Any]]


def reference_models() -> Rows:
    rows: Rows = _read("models.json")
    return rows


def reference_gpus() -> Rows:
    rows: Rows = _read("gpus.json")["gpus"]
    return rows


def reference_steps() -> dict[str, Any]:
    """`decode` and `prefill` rows, each with ms for the `engines` (tp, link)."""
    steps: dict[str, Any] = _read("step_times.json")
    return steps


def reference_staircase() -> Rows:
    rows: Rows = _read("staircase.json")["rows"]
    return rows


def published(name: str) -> dict[str, Any]:
    points: dict[str, Any] = _read("published_points.json")[name]
    return points


def _read(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="utf-8"))
