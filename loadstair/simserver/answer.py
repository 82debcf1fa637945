"""How tokens leave the engine: as server-sent events at the end of their step, or together at the end."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadstair import clock
from loadstair.simserver.api import CompletionRequest, Kind
from loadstair.simserver.scheduler import FinishReason

WORDS = (
    *("measure", "latency", "balance", "through", "morning", "channel", "program", "quality"),
    *("science", "weather", "journey", "kitchen", "history", "diamond", "library", "evening"),
)
TOKEN_TEXTS = tuple(f" {word}" for word in WORDS)
TOKEN_BYTES = tuple(text.encode() for text in TOKEN_TEXTS)
"""All of one length, so that a stream's frames differ in these bytes alone."""
PLACEHOLDER = " @token@"
WRITE_BUFFER_BYTES_MAX = 1 << 20
"""What may wait for a client that does not read; then the request is aborted and the connection cut."""


class Answer(Protocol):
    """Where the engine puts a request's tokens."""

    write_ns: list[int]
    """One for each write of tokens: right before it was handed to the kernel."""
    cached_tokens: int
    """Of the prompt, found in the prefix cache: known with the last token."""

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        """Takes the output token with this number (from 0), and those after it that came in the same step, `count` in
        all; `finish` with the last. When that was, CLOCK_REALTIME ns.

        Raises SlowClientError.
        """
        ...


class SlowClientError(Exception):
    """The client reads too slowly, or is gone: more than WRITE_BUFFER_BYTES_MAX wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """What every chunk of one answer begins with."""

    request_id: str
    model_name: str
    created_s: int
    kind: Kind
    tells_cached: bool = False
    """Whether `usage` says how many prompt tokens were in the prefix cache."""

    def usage(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
        }
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
        return usage

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._object("chat.completion.chunk", choices, usage)

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return self._object("chat.completion", choices, usage)

    def _object(self, chat_name: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
        chat = self.kind == "chat"
        fields: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.request_id}",
            "object": chat_name if chat else "text_completion",
            "created": self.created_s,
            "model": self.model_name,
            "choices": choices,
        }
        return fields if usage is None else fields | {"usage": usage}


@dataclass(slots=True)
class CollectedAnswer:
    """Not streamed: the text is there when the last token is."""

    tokens: int = 0
    finish: FinishReason | None = None
    write_ns: list[int] = field(default_factory=list)
    cached_tokens: int = 0

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        self.tokens = number + count
        self.finish = finish
        return clock.now_ns()

    def body(self, head: AnswerHead, request: CompletionRequest) -> dict[str, Any]:
        text = _text(range(self.tokens))
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish}
        if head.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return head.whole([choice], head.usage(request.prompt_tokens, self.tokens, self.cached_tokens))


class StreamedAnswer:
    """Server-sent events, one chunk for what a step gave, nearly always a token, written straight to the connection.

    The first write carries the role chunk too, the last one the finish chunk, the usage and `[DONE]`: each is one
    `send`, as all that one step gives a stream.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        head: AnswerHead,
        request: CompletionRequest,
        *,
        chunked: bool,
        ends_properly: bool = True,
    ) -> None:
        """`chunked`: HTTP/1.1 framing; False for an HTTP/1.0 client, whose body ends with the connection.
        `ends_properly`: False leaves out all that follows the last token (a fault to test clients with).
        """
        self.write_ns: list[int] = []
        self.cached_tokens = 0
        self._transport = transport
        self._head = head
        self._request = request
        self._chunked = chunked
        self._ends_properly = ends_properly
        before, _, after = self._frame(_token_event(head, PLACEHOLDER)).rpartition(PLACEHOLDER.encode())
        self._before, self._after = before, after

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        if count == 1:
            data = self._before + TOKEN_BYTES[number % len(TOKEN_BYTES)] + self._after
        else:
            data = self._frame(_token_event(self._head, _text(range(number, number + count))))
        if number == 0 and self._head.kind == "chat":
            data = self._frame(_role_event(self._head)) + data
        if finish is not None and self._ends_properly:
            data += self._frames_after(number + count, finish)
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            raise SlowClientError
        # Before the write, not after: on loopback the receiver's kernel stamps the segment inside the send call, and
        # afterwards the stamp would hold the wake-up of the reader too.
        at_ns = clock.now_ns()
        transport.write(data)
        self.write_ns.append(at_ns)
        return at_ns

    def _frames_after(self, tokens: int, finish: FinishReason) -> bytes:
        frames = self._frame(_finish_event(self._head, finish))
        if self._request.include_usage:
            usage = self._head.usage(self._request.prompt_tokens, tokens, self.cached_tokens)
            frames += self._frame(_event(self._head.chunk([], usage)))
        return frames + self._frame(b"data: [DONE]\n\n")

    def _frame(self, event: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event


def _text(numbers: range) -> str:
    return "".join(TOKEN_TEXTS[number % len(TOKEN_TEXTS)] for number in numbers)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _token_event(head: AnswerHead, text: str) -> bytes:
    content: dict[str, Any] = {"delta": {"content": text}} if head.kind == "chat" else {"text": text}
    return _event(head.chunk([{"index": 0, **content, "logprobs": None, "finish_reason": None}]))


def _role_event(head: AnswerHead) -> bytes:
    delta = {"role": "assistant", "content": ""}
    return _event(head.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]))


def _finish_event(head: AnswerHead, finish: FinishReason) -> bytes:
    content: dict[str, Any] = {"delta": {"content": ""}} if head.kind == "chat" else {"text": ""}
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return _event(head.chunk([choice]))
