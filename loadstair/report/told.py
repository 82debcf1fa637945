"""Reasons and warnings of steps, each told once."""

from collections.abc import Mapping
from typing import Any

from loadstair.report import view


def told_once(topology: Mapping[str, Any], what: str, unit: str) -> tuple[str, ...]:
    """`what`: "reasons" or "warnings" of the topology's steps.

    In the words of the first load that has it, with the other loads: `at 4 users: too slow (likewise at 16 users)`.
    """
    loads: dict[str, list[float]] = {}
    messages: dict[str, str] = {}
    for step in topology["steps"]:
        for finding in step[what]:
            loads.setdefault(finding["id"], []).append(step["load"])
            messages.setdefault(finding["id"], finding["message"])
    return tuple(
        f"at {view.load_words(first, unit)}: {messages[id_]}"
        + (f" (likewise at {', '.join(map(view.load, others))} {unit})" if others else "")
        for id_, (first, *others) in loads.items()
    )
