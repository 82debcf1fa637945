"""Before any load: does the endpoint serve the wanted model, and does one small request stream as OpenAI's API says?"""

import json
from dataclasses import dataclass
from typing import Any, assert_never

from loadstair.clock import Deadline
from loadstair.errors import TopologyError
from loadstair.fetch import Answer, FetchError
from loadstair.plain import one_line
from loadstair.plan.model import EndpointKind, Workload
from loadstair.topology.access import ask, origin
from loadstair.topology.endpoint import Endpoint

MODELS_TIMEOUT_S = 20.0
STREAM_TIMEOUT_S_MAX = 300.0
STREAM_BYTES_MAX = 1024 * 1024
MODELS_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the endpoint told of itself. None where it did not."""

    models: tuple[str, ...] | None
    """The first few that it lists."""
    server: str | None
    """The Server header."""
    version: str | None
    """As vLLM's /version has it."""


def preflight(endpoint: Endpoint, workload: Workload, *, request_id: str, deadline: Deadline) -> Seen:
    """Raises TopologyError, one line, for the first thing that a load would trip over.

    Sends one request for two tokens; the server's counters and ledger count it.
    """
    timeout_s = max(1.0, min(MODELS_TIMEOUT_S, deadline.left_s()))
    url = f"{endpoint.url}/models"
    try:
        answer = ask(endpoint, url, timeout_s=timeout_s)
    except FetchError as error:
        raise TopologyError(f"{error}; expected an OpenAI-compatible server there") from error
    _check_access(answer, url, endpoint)
    models = listed_models(answer)
    if models is not None and workload.model not in models:
        raise TopologyError(f"{url}: serves {_listed(models)}; the plan wants {workload.model}")
    _check_stream(endpoint, workload, request_id=request_id, deadline=deadline)
    server = answer.headers.get("server")
    return Seen(
        models=None if models is None else tuple(one_line(model) for model in models[:MODELS_SHOWN_MAX]),
        server=None if server is None else one_line(server),
        version=_version(endpoint, timeout_s=timeout_s),
    )


def listed_models(answer: Answer) -> tuple[str, ...] | None:
    """Model ids of a `/v1/models` answer; None if it is no such list."""
    if answer.status != 200:
        return None
    try:
        parsed = answer.json()
    except ValueError:
        return None
    entries = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        return None
    return tuple(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)


def _listed(models: tuple[str, ...]) -> str:
    if not models:
        return "no model"
    more = f" and {len(models) - MODELS_SHOWN_MAX} more" if len(models) > MODELS_SHOWN_MAX else ""
    return one_line(", ".join(models[:MODELS_SHOWN_MAX])) + more


def small_request(workload: Workload) -> tuple[str, bytes] | None:
    """(path below /v1, body) of a streamed request for two tokens; None for an endpoint that does not stream."""
    asked: dict[str, Any] = {
        "model": workload.model,
        "max_tokens": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    match workload.endpoint:
        case EndpointKind.CHAT:
            asked["messages"] = [{"role": "user", "content": "Hello"}]
            return "/chat/completions", json.dumps(asked).encode()
        case EndpointKind.COMPLETIONS:
            asked["prompt"] = "Hello"
            return "/completions", json.dumps(asked).encode()
        case EndpointKind.EMBEDDINGS:
            return None
        case _:
            assert_never(workload.endpoint)


def _check_stream(endpoint: Endpoint, workload: Workload, *, request_id: str, deadline: Deadline) -> None:
    asked = small_request(workload)
    if asked is None:
        return
    path, body = asked
    url = endpoint.url + path
    try:
        answer = ask(
            endpoint,
            url,
            body=body,
            headers={"Content-Type": "application/json", "X-Request-Id": request_id},
            # The first request may compile kernels: it has what is left of the topology's deadline.
            timeout_s=max(1.0, min(STREAM_TIMEOUT_S_MAX, deadline.left_s())),
            body_bytes_max=STREAM_BYTES_MAX,
        )
    except FetchError as error:
        raise TopologyError(f"{error}; expected a short streamed answer to one small request") from error
    _check_access(answer, url, endpoint)
    problem = stream_problem(answer)
    if problem is not None:
        raise TopologyError(f"{url}: {problem}")


def _check_access(answer: Answer, url: str, endpoint: Endpoint) -> None:
    if answer.status not in (401, 403):
        return
    if endpoint.api_key_env is None:
        advice = "set api_key_env in the topology to the name of an environment variable that holds a key"
    else:
        advice = f"put a key that it accepts into the environment variable {endpoint.api_key_env}"
    raise TopologyError(f"{url}: HTTP {answer.status}: access refused; {advice}")


def stream_problem(answer: Answer) -> str | None:
    """What is wrong with the answer to a small streamed request; None if a load can work with it."""
    if answer.status == 429:
        return "HTTP 429 to one small request: it is rate limited; lift the limit, or the limit is what gets measured"
    if answer.status != 200:
        return f"HTTP {answer.status} to one small request: {_error_message(answer)}"
    content_type = answer.headers.get("content-type", "none")
    if not content_type.lower().startswith("text/event-stream"):
        return (
            f"answered {one_line(content_type)}, not text/event-stream: expected an OpenAI-compatible API that streams"
        )
    finished = False
    for line in answer.text().splitlines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            finished = True
            continue
        try:
            event = json.loads(data)
        except ValueError:
            return f"sent an event that is not JSON: {one_line(data)!r}"
        if not isinstance(event, dict):
            return f"sent an event that is not a JSON object: {one_line(data)!r}"
        if event.get("error"):
            return f"sent an error inside the stream: {one_line(json.dumps(event['error']))}"
        finished = finished or _has_finish_reason(event)
    return None if finished else "the stream ended without a finish_reason or [DONE]: it is cut off on the way"


def _has_finish_reason(event: dict[str, Any]) -> bool:
    choices = event.get("choices")
    if not isinstance(choices, list):
        return False
    return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


def _error_message(answer: Answer) -> str:
    """The `error.message` of OpenAI's form, else the beginning of the body."""
    try:
        parsed = answer.json()
    except ValueError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return one_line(str(message) if message else answer.text()) or "an empty body"


def _version(endpoint: Endpoint, *, timeout_s: float) -> str | None:
    try:
        answer = ask(endpoint, origin(endpoint.url) + "/version", timeout_s=timeout_s)
        parsed = answer.json() if answer.status == 200 else None
    except (FetchError, ValueError):
        return None
    version = parsed.get("version") if isinstance(parsed, dict) else None
    return one_line(version) if isinstance(version, str) else None
