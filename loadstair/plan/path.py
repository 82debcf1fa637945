"""Paths into a plan's raw values, as people write them: `topologies[0].engines[0].tp`."""

from collections.abc import Mapping, Sequence
from typing import Any

Part = str | int
"""A key, or an index into a list."""


def dotted(parts: Sequence[Part]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def split_path(path: str) -> list[Part]:
    """Raises ValueError where it is no path."""
    parts: list[Part] = []
    for piece in path.replace("[", ".[").split("."):
        if piece.startswith("[") and piece.endswith("]") and piece[1:-1].isdigit():
            parts.append(int(piece[1:-1]))
        elif piece and "[" not in piece and "]" not in piece:
            parts.append(piece)
        else:
            raise ValueError(f"{path!r} is not a path such as topologies[0].engines[0].tp")
    return parts


def has(value: object, part: Part) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def set_at(raw: dict[str, Any], path: Sequence[Part], value: object) -> None:
    """Sets one value in place; mappings on the way are made, list entries must be there. Raises ValueError."""
    at: Any = raw
    for position, part in enumerate(path):
        here = dotted(path[: position + 1])
        if isinstance(part, int) and not has(at, part):
            raise ValueError(f"the plan has no {here}")
        if isinstance(part, str) and not isinstance(at, dict):
            raise ValueError(f"{dotted(path[:position])} is not a mapping")
        if position == len(path) - 1:
            at[part] = value
        else:
            if isinstance(part, str) and at.get(part) is None:
                at[part] = {}
            at = at[part]
