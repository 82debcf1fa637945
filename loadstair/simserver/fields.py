"""A request's JSON, field by field, and the errors that vLLM answers with where one is wrong."""

import json
from typing import Any


class ApiError(Exception):
    """An answer with an error body, as vLLM words it."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param


def invalid(kind: str, field: str, message: str, value: object) -> ApiError:
    """For a field of the wrong type, in the words of vLLM's validation."""
    place = f"body.{field}" if field else "body"
    shown = value if isinstance(value, str) else _summary(value)
    text = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{message}', 'input': {shown!r}}}"
    return ApiError(400, text, kind="Bad Request", param=place)


def refusal(message: str, *, param: str | None = None, value: object = None) -> ApiError:
    """For a field with a value that makes no sense; `value` is told where it is given."""
    if param is not None:
        message += f" (parameter={param})" if value is None else f" (parameter={param}, value={value})"
    return ApiError(400, message, param=param)


def json_object(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid("missing", "", "Field required", None)
    try:
        fields = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid("json_invalid", str(error.pos), f"JSON decode error: {error.msg}", {}) from error
    except (ValueError, RecursionError) as error:
        raise invalid("json_invalid", "0", "JSON decode error", {}) from error
    if not isinstance(fields, dict):
        raise invalid(
            "model_attributes_type", "", "Input should be a valid dictionary or object to extract fields from", fields
        )
    return fields


def required(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise invalid("missing", name, "Field required", fields)
    return fields[name]


def integer(fields: dict[str, Any], name: str, *, default: int) -> int:
    """A string of digits and a number without a fraction will do, as they do for vLLM."""
    value = fields.get(name)
    match value:
        case None:
            return default
        case bool():
            raise invalid("int_type", name, "Input should be a valid integer", value)
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case float():
            message = "Input should be a valid integer, got a number with a fractional part"
            raise invalid("int_from_float", name, message, str(value))
        case str() if value.strip().removeprefix("-").isdecimal():
            return int(value)
        case str():
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise invalid("int_parsing", name, message, value)
        case _:
            raise invalid("int_type", name, "Input should be a valid integer", value)


def number(fields: dict[str, Any], name: str, *, default: float) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid("float_type", name, "Input should be a valid number", value)
    return float(value)


def asked_adapter(fields: dict[str, Any], model_name: str | None, adapters: tuple[str, ...]) -> str | None:
    """The adapter whose name stands where the model's would; None for the model itself. Raises ApiError for others."""
    if fields.get("model") in adapters:
        return str(fields["model"])
    check_model(fields, model_name)
    return None


def check_model(fields: dict[str, Any], model_name: str | None) -> None:
    """Raises ApiError for another model; none is as good as the right one. `model_name` of None takes any."""
    if model_name is None:
        return
    model = fields.get("model", model_name)
    if model is not None and model != model_name:
        message = f"The model `{model}` does not exist. Valid aliases: {model_name}."
        raise ApiError(404, message, kind="NotFoundError", param="model")


def _summary(value: object) -> str:
    match value:
        case list() | dict():
            return f"<{type(value).__name__} of {len(value)} items>"
        case _:
            return str(value)[:200]
