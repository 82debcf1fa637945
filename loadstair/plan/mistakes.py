"""What pydantic says of a plan, in words for its author: one line for each path, with what would be right."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from loadstair.errors import Problem
from loadstair.plan.path import Part, dotted, has
from loadstair.plan.schema import keys_at

SHOWN_CHARACTERS_MAX = 60


def problems_of(errors: Iterable[ErrorDetails], raw: Mapping[str, Any]) -> list[Problem]:
    """One problem a path: the members of a union each complain, the reader wants one line."""
    by_path: dict[str, list[tuple[ErrorDetails, list[Part]]]] = {}
    for error in errors:
        if error["type"] == "too_short" and error["input"]:
            continue  # an echo: only too short because its items, complained of themselves, were left out
        parts = _path_in(raw, error)
        by_path.setdefault(dotted(parts), []).append((error, parts))
    return [
        Problem(path=path, message=_union_message(group) if len(group) > 1 else _message(*group[0], raw))
        for path, group in by_path.items()
    ]


def _path_in(raw: Any, error: ErrorDetails) -> list[Part]:
    """The location without the union members' names that pydantic puts between the keys."""
    parts: list[Part] = []
    at = raw
    for position, part in enumerate(error["loc"]):
        last = position == len(error["loc"]) - 1
        if has(at, part):
            at = at[part]
        elif not (last and error["type"] in ("missing", "extra_forbidden")):
            continue
        parts.append(part)
    return parts


def _union_message(group: Sequence[tuple[ErrorDetails, list[Part]]]) -> str:
    value = group[0][0]["input"]
    choices = " or ".join(dict.fromkeys(_plain(error["msg"]) for error, _ in group))
    return f"{choices}, not {_shown(value)}"


def _message(error: ErrorDetails, parts: Sequence[Part], raw: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            known = keys_at(raw, parts[:-1])
            near = difflib.get_close_matches(str(parts[-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            return f"unknown key; {hint}"
        case "union_tag_invalid" | "union_tag_not_found":
            return "needs kind: simulated, processes, external, compose or kubernetes" + _given_kind(error["input"])
        case "tuple_type" | "list_type":
            return f"should be a list, not {_shown(error['input'])}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"should be a mapping of keys, not {_shown(error['input'])}"
        case "string_type":
            return f"should be text, not {_shown(error['input'])}; quote it if it is meant as text"
        case "string_pattern_mismatch":
            return f"letters, digits, '.', '_' and '-', at most 64, not {_shown(error['input'])}"
        case "value_error":
            return (
                f"{_plain(error['msg'])}, in {_shown(error['input'])}"
                if not _is_scalar(error["input"])
                else (f"{_plain(error['msg'])}, not {_shown(error['input'])}")
            )
        case _:
            return f"{_plain(error['msg'])}, not {_shown(error['input'])}"


def _given_kind(value: object) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return f", not {_shown(kind)}" if kind is not None else ""


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text[:1].lower() + text[1:]


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _shown(value: object) -> str:
    """Without what a URL could hold of a secret: user, password and query."""
    text = re.sub(r"//[^/@\s]*@", "//…@", repr(value) if _is_scalar(value) else reprlib.repr(value))
    text = re.sub(r"(://[^\s?'\"]*\?)[^\s'\"]+", r"\1…", text)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"
