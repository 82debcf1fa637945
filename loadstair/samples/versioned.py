"""Values in JSON files that carry the number of their schema: one way to check them when they are read."""

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

Value = TypeVar("Value")


class OtherSchemaError(ValueError):
    """`str()` tells the number, and the one that is read."""


class DamagedError(ValueError):
    """`str()` tells where, and what is wrong there first."""


def of_schema(raw: Any, schema: int, kind: type[Value]) -> Value:
    """What the JSON of a file says, as a value of `kind`. Raises OtherSchemaError and DamagedError."""
    given = raw.get("schema") if isinstance(raw, dict) else None
    if given != schema:
        raise OtherSchemaError(f"schema {given!r}; this version reads {schema}")
    try:
        return TypeAdapter(kind).validate_python({name: value for name, value in raw.items() if name != "schema"})
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
