"""The plan's JSON schema, for editors (`plans/schema.json`) and for saying which keys exist where."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from loadstair.plan.model import Plan


@cache
def plan_schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Plan.model_json_schema()


def schema_text() -> str:
    """What `plans/schema.json` holds."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


def keys_at(raw: Mapping[str, Any], path: Sequence[str | int]) -> list[str]:
    """The keys that a plan may have at a path; `raw` tells which kind of topology stands there. Empty if unknown."""
    schema: Mapping[str, Any] = plan_schema()
    at: Any = raw
    for part in path:
        schema = _resolve(schema, at)
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
        at = at[part]
    return list(_resolve(schema, at).get("properties", {}))


def _resolve(schema: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """Follows references and picks the member of a union that fits the value."""
    while True:
        if "$ref" in schema:
            schema = plan_schema()["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        elif "discriminator" in schema:
            kind = value.get(schema["discriminator"]["propertyName"]) if isinstance(value, Mapping) else None
            reference = schema["discriminator"]["mapping"].get(kind)
            schema = {"$ref": reference} if reference else {}
        elif "anyOf" in schema:
            wanted = "object" if isinstance(value, Mapping) else "array" if isinstance(value, list) else None
            members = [_resolve(member, value) for member in schema["anyOf"]]
            schema = next((member for member in members if member.get("type") == wanted), {})
        else:
            return schema


if __name__ == "__main__":
    import sys

    sys.stdout.write(schema_text())
