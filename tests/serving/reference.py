"""The figures that the package must reproduce: see data/README.md for where they come from."""

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def reference_models() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((DATA / "models.json").read_text(encoding="utf-8"))
    return rows


def reference_gpus() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((DATA / "gpus.json").read_text(encoding="utf-8"))["gpus"]
    return rows
