"""OpenAI's completion requests as the engine reads them, in vLLM's words where they are wrong. A word is a token."""

from dataclasses import dataclass
from typing import Any

from loadstair.simserver.chunks import Kind
from loadstair.simserver.fields import ApiError, asked_adapter, integer, invalid, json_object, number, refusal, required
from loadstair.simserver.prompt import block_hashes
from loadstair.simserver.words import StopString, first_stop

LOGPROBS_MAX = 20


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
    continuous_usage: bool = False
    """The token counts in every chunk of a stream."""
    logprobs: int | None = None
    """So many candidates for each token; None without log probabilities."""
    stop: StopString | None = None
    """The stop string that the answer will meet first."""
    priority: int = 0
    lora: str | None = None
    """The adapter that was asked for as the model; None for the model itself."""
    prompt_blocks: tuple[int, ...] = ()
    """Of the prompt, for the prefix cache; empty without one."""


def parse_completion(
    kind: Kind,
    body: bytes,
    *,
    model_name: str | None,
    max_model_len: int,
    adapters: tuple[str, ...] = (),
    prefix_block_size: int | None = None,
) -> CompletionRequest:
    """`prefix_block_size`: tokens in a block of the prefix cache, None without one.

    Raises ApiError for what vLLM would refuse, and for what this engine cannot do (several choices).
    """
    fields = json_object(body)
    prompt = chat_words(fields) if kind == "chat" else _prompt_words(fields)
    lora = asked_adapter(fields, model_name, adapters)
    _check_sampling(fields)
    prompt_tokens = max(1, len(prompt))
    check_context(prompt_tokens, max_model_len)
    max_tokens = _max_tokens(kind, fields, prompt_tokens=prompt_tokens, max_model_len=max_model_len)
    min_tokens = integer(fields, "min_tokens", default=0)
    if min_tokens < 0:
        raise refusal(f"min_tokens must be greater than or equal to 0, got {min_tokens}.")
    if min_tokens > max_tokens:
        raise refusal(f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.")
    stream = bool(fields.get("stream", False))
    options = _stream_options(fields, stream)
    include_usage = bool(options.get("include_usage", False))
    return CompletionRequest(
        kind=kind,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=bool(fields.get("ignore_eos", False)),
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats", False)),
        logprobs=_logprobs(kind, fields),
        stop=first_stop(_stops(fields), min_tokens=min_tokens),
        priority=integer(fields, "priority", default=0),
        lora=lora,
        prompt_blocks=() if prefix_block_size is None else block_hashes(prompt, prefix_block_size, lora=lora),
    )


def check_context(prompt_tokens: int, max_model_len: int) -> None:
    """Raises ApiError for a prompt that leaves no room for a token of output."""
    if prompt_tokens >= max_model_len:
        raise refusal(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains "
            f"{prompt_tokens} input tokens, which exceeds this limit with the output token that is needed. Please "
            "reduce the length of the input prompt.",
            param="input_tokens",
            value=prompt_tokens,
        )


def _max_tokens(kind: Kind, fields: dict[str, Any], *, prompt_tokens: int, max_model_len: int) -> int:
    """Absent: chat fills the context, completions give 16 tokens, as vLLM and OpenAI have it."""
    room = max_model_len - prompt_tokens
    default = room if kind == "chat" else min(16, room)
    name = "max_completion_tokens" if fields.get("max_completion_tokens") is not None else "max_tokens"
    max_tokens = integer(fields, name, default=default)
    if max_tokens < 1:
        raise refusal(f"max_tokens must be at least 1, got {max_tokens}.", param="max_tokens", value=max_tokens)
    if max_tokens > max_model_len:
        message = f"max_tokens={max_tokens} cannot be greater than max_model_len={max_model_len}."
        raise refusal(f"{message} Please request fewer output tokens.", param="max_tokens", value=max_tokens)
    if max_tokens > room:
        raise refusal(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {max_tokens} "
            f"output tokens and your prompt contains {prompt_tokens} input tokens. Please ask for less of either.",
            param="input_tokens",
            value=prompt_tokens,
        )
    return max_tokens


def _check_sampling(fields: dict[str, Any]) -> None:
    n = integer(fields, "n", default=1)
    if n < 1:
        raise refusal(f"n must be at least 1, got {n}.")
    if n > 1:
        raise refusal("n must be 1: this engine gives one choice", param="n", value=n)
    temperature = number(fields, "temperature", default=1.0)
    if temperature < 0:
        raise refusal(f"temperature must be non-negative, got {temperature}.", param="temperature", value=temperature)
    top_p = number(fields, "top_p", default=1.0)
    if not 0 < top_p <= 1:
        raise refusal(f"top_p must be in (0, 1], got {top_p}.", param="top_p", value=top_p)


def _logprobs(kind: Kind, fields: dict[str, Any]) -> int | None:
    if kind == "completions":
        if fields.get("logprobs") is None:
            return None
        count = integer(fields, "logprobs", default=0)
    else:
        count = integer(fields, "top_logprobs", default=0)
        if not fields.get("logprobs"):
            if count:
                raise refusal("when using `top_logprobs`, `logprobs` must be set to true.", param="top_logprobs")
            return None
    if count < 0:
        raise refusal(f"logprobs must be non-negative, got {count}.", param="logprobs", value=count)
    if count > LOGPROBS_MAX:
        message = f"Requested sample logprobs of {count}, which is greater than max allowed: {LOGPROBS_MAX}"
        raise refusal(message, param="logprobs", value=count)
    return count


def _stops(fields: dict[str, Any]) -> tuple[str, ...]:
    match fields.get("stop"):
        case None:
            return ()
        case str(stop):
            stops = [stop]
        case list(stops) if all(isinstance(stop, str) for stop in stops):
            pass
        case value:
            raise invalid("string_type", "stop", "Input should be a valid string", value)
    if not all(stops):
        raise refusal("stop cannot contain an empty string.")
    return tuple(stops)


def _stream_options(fields: dict[str, Any], stream: bool) -> dict[str, Any]:
    options = fields.get("stream_options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", "stream_options", message, options)
    if not stream:
        raise refusal("Stream options can only be defined when `stream=True`.", param="stream_options")
    return options


def chat_words(fields: dict[str, Any]) -> list[str]:
    """Of all messages. Raises ApiError."""
    messages = required(fields, "messages")
    if not isinstance(messages, list):
        raise invalid("list_type", "messages", "Input should be a valid list", messages)
    if not messages:
        raise refusal("Cannot apply chat template to an empty conversation. Provide at least one message.")
    if not all(isinstance(message, dict) for message in messages):
        raise invalid("dict_type", "messages", "Input should be a valid dictionary", messages)
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
            raise invalid("string_type", "messages", "Input should be a valid string", content)


def _prompt_words(fields: dict[str, Any]) -> list[str] | list[int]:
    """Words of a string, or token ids as they are."""
    match fields.get("prompt"):
        case None | "":
            raise refusal("Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")
        case []:
            raise refusal("You must pass at least one prompt")
        case str(text) | [str(text)]:
            return text.split()
        case [int(), *_] as ids if all(isinstance(token, int) for token in ids):
            return list(ids)
        case [str(), *_]:
            raise ApiError(400, "prompt must be one string: this engine answers one prompt a request", param="prompt")
        case value:
            raise invalid("string_type", "prompt", "Input should be a valid string", value)
