"""Which model to ask for, where nobody said: the only one that the server has."""

from collections.abc import Mapping
from typing import Any, Final

from loadstair.errors import LoadError
from loadstair.fetch import FetchError, fetch
from loadstair.plain import one_line

ASK_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 1024 * 1024
SHOWN_MAX: Final = 8


def only_model(base_url: str, *, key: str | None, timeout_s: float = ASK_S) -> str:
    """Raises LoadError, in one line, if the server does not say, or has none or several."""
    url = f"{base_url}/models"
    headers: Mapping[str, str] = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        answer = fetch(url, headers=headers, timeout_s=timeout_s, body_bytes_max=ANSWER_BYTES_MAX)
    except FetchError as error:
        raise LoadError(one_line(f"--model was not given, and the server could not be asked: {error}")) from error
    if answer.status != 200:
        raise LoadError(f"--model was not given, and {url} answers with status {answer.status}")
    try:
        models = _ids(answer.json())
    except (ValueError, RecursionError):
        models = []
    match models:
        case []:
            raise LoadError(f"--model was not given, and {url} names none")
        case [model]:
            return model
        case _:
            shown = ", ".join(one_line(model, 80) for model in models[:SHOWN_MAX])
            more = f" and {len(models) - SHOWN_MAX} more" if len(models) > SHOWN_MAX else ""
            raise LoadError(f"--model was not given, and the server has several: {shown}{more}")


def _ids(answer: Any) -> list[str]:
    rows = answer.get("data") if isinstance(answer, dict) else None
    found = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [model for model in dict.fromkeys(found) if isinstance(model, str) and model]
