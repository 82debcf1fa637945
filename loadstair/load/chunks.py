"""One event of a stream → what it says, in the dialects of OpenAI's chat and completions endpoints.

What a server sends is first read strictly, into these types and nothing else; the rare one that does not fit is
read again, leniently: a field of the wrong type is then as good as absent, NaN and half a surrogate pair pass, as
they do in an application on the openai SDK.
Source: OpenAI API reference, streaming; the protocol modules of vLLM, SGLang, llama.cpp, TGI and transformers.
"""

import json
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

TOKENS_MAX: Final = 2**31 - 1
LENIENT_BYTES_MAX: Final = 64 * 1024
"""At worst, JSON of many small objects, this takes some 5 ms; read strictly, four times as much does."""
CHOICES_MAX: Final = 128
"""What OpenAI allows."""
CALLS_MAX: Final = 128
PARTS_MAX: Final = 16
PARTS_DEPTH_MAX: Final = 2
"""Of lists in a content: parts, and what a part of the kind "thinking" holds."""

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
ChoiceIndex = Annotated[int, Meta(ge=0, lt=CHOICES_MAX)]


class ChunkError(Exception):
    """The event is none of the API's. The text says why, and quotes nothing of it."""


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct, gc=False):
    function: Function | None = None


class Delta(Struct, gc=False):
    content: str | list[Any] | None = None
    """A list holds parts, as Mistral sends them: text, or objects with a text of their own."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=CALLS_MAX)] | None = None
    function_call: Function | None = None
    """What tool calls were called before there could be several."""


class Token(Struct, gc=False):
    """Its log probability is of no interest here."""


class LogProbs(Struct, gc=False):
    content: list[Token] | None = None
    """One for each token of the chunk."""


class Choice(Struct, gc=False):
    index: ChoiceIndex = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[Any] | None = None
    """Those of the chunk, from vLLM where the request says `return_token_ids`."""
    logprobs: LogProbs | None = None


class PromptDetails(Struct, gc=False):
    cached_tokens: Count | None = None


class Usage(Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None


class Fault(Struct, gc=False):
    """What a server says of its failure. Its message is left out: it may quote the prompt."""

    type: str | int | None = None
    error_type: str | None = None
    """TGI's name for it."""
    code: str | int | None = None
    http_status_code: int | None = None

    def kind(self) -> str:
        """In words for a report; empty where the server says nothing but that it failed."""
        details = (self.type, self.error_type, self.code, self.http_status_code)
        return ": ".join(str(detail) for detail in details if detail is not None and detail != "")


class Chunk(Fault, gc=False):
    """A fault itself where `object` is "error", as vLLM's first versions had it, or the event is of type error."""

    choices: Annotated[list[Choice], Meta(max_length=CHOICES_MAX)] | None = None
    usage: Usage | None = None
    error: Fault | str | None = None
    object: str | None = None

    def failed(self) -> bool:
        return bool(self.error) or self.object == "error"

    def fault(self) -> Fault:
        """What a chunk that failed says of it."""
        return self.error if isinstance(self.error, Fault) else self


_STRICT: Final = msgspec.json.Decoder(Chunk)


def decode_chunk(data: bytes | bytearray) -> tuple[Chunk, bool]:
    """The chunk, and whether it was read strictly. Raises ChunkError."""
    try:
        return _STRICT.decode(data), True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _lenient(_json_object(data)), False


def carries_output(choice: Choice) -> bool:
    """Whether it brings something the model wrote: text, reasoning, a refusal, a part of a call.

    The role chunk and a content that is null or empty do not.
    """
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    content = delta.content
    if content:
        return isinstance(content, str) or _parts_carry(content, PARTS_DEPTH_MAX)
    if delta.reasoning_content or delta.reasoning or delta.refusal:
        return True
    if delta.tool_calls is not None and any(_calls(call.function) for call in delta.tool_calls):
        return True
    return _calls(delta.function_call)


def listed_tokens(choice: Choice) -> int | None:
    """How many tokens the choice lists; None where it lists none."""
    if choice.token_ids is not None:
        return len(choice.token_ids)
    if choice.logprobs is not None and choice.logprobs.content is not None:
        return len(choice.logprobs.content)
    return None


def _calls(function: Function | None) -> bool:
    return function is not None and bool(function.name or function.arguments)


def _parts_carry(parts: list[Any], depth_max: int) -> bool:
    return any(_part_carries(part, depth_max - 1) for part in parts[:PARTS_MAX])


def _part_carries(part: object, depth_max: int) -> bool:
    if isinstance(part, dict):
        text, thinking = part.get("text"), part.get("thinking")
        if isinstance(thinking, list):
            return depth_max > 0 and _parts_carry(thinking, depth_max)
        part = text or thinking
    return isinstance(part, str) and bool(part)


def _json_object(data: bytes | bytearray) -> dict[str, Any]:
    if len(data) > LENIENT_BYTES_MAX:
        raise ChunkError(f"an event longer than {LENIENT_BYTES_MAX} bytes that is not as the API has it")
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise ChunkError("an event that is not JSON") from None
    if not isinstance(value, dict):
        raise ChunkError("an event that is not a JSON object")
    return value


def _lenient(value: dict[str, Any]) -> Chunk:
    choices = value.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise ChunkError("an event whose choices are not a list")
    if choices is not None and len(choices) > CHOICES_MAX:
        raise ChunkError(f"an event of more than {CHOICES_MAX} choices")
    fault = _fault(value)
    return Chunk(
        type=fault.type,
        error_type=fault.error_type,
        code=fault.code,
        http_status_code=fault.http_status_code,
        choices=None if choices is None else [_choice(choice) for choice in choices],
        usage=_usage(value.get("usage")),
        error=_error(value.get("error")),
        object=_text(value.get("object")),
    )


def _error(value: object) -> Fault | str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _fault(value)
    return Fault() if value else None


def _fault(value: dict[str, Any]) -> Fault:
    return Fault(
        type=_text_or_count(value.get("type")),
        error_type=_text(value.get("error_type")),
        code=_text_or_count(value.get("code")),
        http_status_code=_count(value.get("http_status_code")),
    )


def _choice(value: object) -> Choice:
    if not isinstance(value, dict):
        raise ChunkError("an event whose choice is not an object")
    index = _count(value.get("index")) or 0
    if index >= CHOICES_MAX:
        raise ChunkError(f"a choice whose index is not below {CHOICES_MAX}")
    delta, logprobs, token_ids = value.get("delta"), value.get("logprobs"), value.get("token_ids")
    return Choice(
        index=index,
        delta=_delta(delta) if isinstance(delta, dict) else None,
        text=_text(value.get("text")),
        finish_reason=_text(value.get("finish_reason")),
        token_ids=token_ids if isinstance(token_ids, list) else None,
        logprobs=_logprobs(logprobs) if isinstance(logprobs, dict) else None,
    )


def _logprobs(value: dict[str, Any]) -> LogProbs:
    tokens = value.get("content")
    return LogProbs(content=[Token()] * len(tokens) if isinstance(tokens, list) else None)


def _delta(value: dict[str, Any]) -> Delta:
    content, calls = value.get("content"), value.get("tool_calls")
    return Delta(
        content=content if isinstance(content, str | list) else None,
        reasoning_content=_text(value.get("reasoning_content")),
        reasoning=_text(value.get("reasoning")),
        refusal=_text(value.get("refusal")),
        tool_calls=[ToolCall(function=_function(call)) for call in calls[:CALLS_MAX]]
        if isinstance(calls, list)
        else None,
        function_call=_function({"function": value.get("function_call")}),
    )


def _function(call: object) -> Function | None:
    """Arguments are a string of JSON; some servers send the object itself."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return None
    arguments = function.get("arguments")
    return Function(
        name=_text(function.get("name")),
        arguments="{…}" if isinstance(arguments, dict) and arguments else _text(arguments),
    )


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_count(value.get("prompt_tokens")),
        completion_tokens=_count(value.get("completion_tokens")),
        prompt_tokens_details=(
            PromptDetails(cached_tokens=_count(details.get("cached_tokens"))) if isinstance(details, dict) else None
        ),
    )


def _count(value: object) -> int | None:
    """None where a server sends something that can be no token count. 5.0 is 5."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX:
        return value
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text_or_count(value: object) -> str | int | None:
    return value if isinstance(value, str) else _count(value)
