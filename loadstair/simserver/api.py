"""OpenAI's completion requests as the engine reads them, and vLLM's error bodies. A word is a token."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from loadstair.simserver.prompt import block_hashes

Kind = Literal["chat", "completions"]


class ApiError(Exception):
    """An answer with an error body, as vLLM words it."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    kind: Kind
    prompt_tokens: int
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    """A last chunk with the token counts, in a stream."""
    priority: int = 0
    lora: str | None = None
    """The adapter that was asked for as the model; None for the model itself."""
    prompt_blocks: tuple[int, ...] = ()
    """Of the prompt, for the prefix cache; empty without one."""


def parse_completion(
    kind: Kind,
    body: bytes,
    *,
    model_name: str,
    max_model_len: int,
    adapters: tuple[str, ...] = (),
    prefix_block_size: int | None = None,
) -> CompletionRequest:
    """`prefix_block_size`: tokens in a block of the prefix cache, None without one.

    Raises ApiError for what vLLM would refuse, and for what this engine cannot do (several choices).
    """
    fields = _json_object(body)
    model = fields.get("model", model_name)
    if model != model_name and model not in adapters:
        message = f"The model `{model}` does not exist."
        raise ApiError(404, message, kind="NotFoundError", param="model")
    if _integer(fields, "n", default=1) != 1:
        raise ApiError(400, "n must be 1: this engine gives one choice", param="n")
    lora = None if model == model_name else model
    prompt = _chat_words(fields) if kind == "chat" else _prompt_words(fields)
    prompt_tokens = max(1, len(prompt))
    room = max_model_len - prompt_tokens
    if room < 1:
        message = (
            f"This model's maximum context length is {max_model_len} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages."
        )
        raise ApiError(400, message, param="input_tokens")
    max_tokens = _max_tokens(kind, fields, room)
    if max_tokens > room:
        message = (
            f"'max_tokens' or 'max_completion_tokens' is too large: {max_tokens}. This model's maximum context length "
            f"is {max_model_len} tokens and your request has {prompt_tokens} input tokens."
        )
        raise ApiError(400, message, param="max_tokens")
    min_tokens = _integer(fields, "min_tokens", default=0)
    if not 0 <= min_tokens <= max_tokens:
        raise ApiError(400, f"min_tokens must lie between 0 and max_tokens={max_tokens}, got {min_tokens}.")
    stream_options = fields.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise ApiError(400, "stream_options must be an object", param="stream_options")
    return CompletionRequest(
        kind=kind,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=bool(fields.get("ignore_eos", False)),
        stream=bool(fields.get("stream", False)),
        include_usage=bool(stream_options.get("include_usage", False)),
        priority=_integer(fields, "priority", default=0),
        lora=lora,
        prompt_blocks=() if prefix_block_size is None else block_hashes(prompt, prefix_block_size, lora=lora),
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object")
    return fields


def _max_tokens(kind: Kind, fields: dict[str, Any], room: int) -> int:
    """Absent: chat fills the context, completions give 16 tokens, as vLLM and OpenAI have it."""
    default = room if kind == "chat" else min(16, room)
    name = "max_completion_tokens" if fields.get("max_completion_tokens") is not None else "max_tokens"
    max_tokens = _integer(fields, name, default=default)
    if max_tokens < 1:
        raise ApiError(400, f"{name} must be at least 1, got {max_tokens}.", param=name)
    return max_tokens


def _integer(fields: dict[str, Any], name: str, *, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise ApiError(400, f"{name} must be an integer, got {json.dumps(value)[:80]}", param=name)
    return value


def _chat_words(fields: dict[str, Any]) -> list[str]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "messages must be a list of at least one message", param="messages")
    return [word for message in messages for word in _content_words(message.get("content"))]


def _content_words(content: object) -> list[str]:
    match content:
        case None:
            return []
        case str():
            return content.split()
        case list():
            texts = [part.get("text", "") for part in content if isinstance(part, dict)]
            return [word for text in texts if isinstance(text, str) for word in text.split()]
        case _:
            raise ApiError(400, "content must be a string or a list of parts", param="messages")


def _prompt_words(fields: dict[str, Any]) -> list[str] | list[int]:
    """Words of a string, or token ids as they are."""
    match fields.get("prompt"):
        case str(text) | [str(text)]:
            return text.split()
        case [int(), *_] as ids if all(isinstance(token, int) for token in ids):
            return list(ids)
        case _:
            raise ApiError(400, "prompt must be one string or one list of token ids", param="prompt")
