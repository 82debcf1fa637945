"""How tokens leave the engine: as server-sent events at the end of their step, or together at the end."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadstair import clock
from loadstair.simserver.api import CompletionRequest
from loadstair.simserver.chunks import (
    AnswerHead,
    Timings,
    error_events,
    event,
    last_choices,
    logprobs_of,
    role_choice,
    timings_of,
    token_choice,
)
from loadstair.simserver.scheduler import FinishReason
from loadstair.simserver.words import TOKEN_BYTES, TOKEN_CHARACTERS, StopString, text_of

PLACEHOLDER = " @token@"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
WRITE_BUFFER_BYTES_MAX = 1 << 20
"""What may wait for a client that does not read; then the request is aborted and the connection cut."""


class Answer(Protocol):
    """Where the engine puts a request's tokens."""

    write_ns: list[int]
    """One for each write of tokens: right before it was handed to the kernel."""
    cached_tokens: int
    """Of the prompt, found in the prefix cache: known with the last token."""
    timings: Timings | None
    """Known with the last token."""

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        """Takes the output token with this number (from 0), and those after it that came in the same step, `count` in
        all; `finish` with the last. When that was, CLOCK_REALTIME ns.

        Raises SlowClientError and BrokenStreamError.
        """
        ...


class SlowClientError(Exception):
    """The client reads too slowly, or is gone: more than WRITE_BUFFER_BYTES_MAX wait for it."""


class BrokenStreamError(Exception):
    """A fault that was asked for: the stream ends here."""


@dataclass(slots=True)
class CollectedAnswer:
    """Not streamed: the text is there when the last token is."""

    tokens: int = 0
    finish: FinishReason | None = None
    write_ns: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    timings: Timings | None = None

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        self.tokens = number + count
        self.finish = finish
        return clock.now_ns()

    def body(self, head: AnswerHead, request: CompletionRequest) -> dict[str, Any]:
        stop = request.stop if self.finish == "stop" and _ends_at_stop(request, self.tokens) else None
        text = _kept(text_of(range(self.tokens)), stop)
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish}
        if request.logprobs is not None:
            choice["logprobs"] = logprobs_of(head.kind, range(self.tokens), request.logprobs)
        if head.dialect == "vllm":
            choice["stop_reason"] = None if stop is None else stop.text
        if head.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        fields = head.whole([choice], head.usage(request.prompt_tokens, self.tokens, self.cached_tokens))
        return fields | _timings(head, request, self.timings, self.cached_tokens, self.tokens)


class StreamedAnswer:
    """Server-sent events, one chunk for what a step gave, nearly always a token, written straight to the connection.

    A chat's role chunk is a write of its own right before the first token's, as vLLM has it; what ends a stream
    leaves with the last token's chunk.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        head: AnswerHead,
        request: CompletionRequest,
        *,
        chunked: bool,
        interval_tokens: int = 1,
        ends_properly: bool = True,
        broken_after: int | None = None,
        tells_of_break: bool = False,
    ) -> None:
        """`chunked`: HTTP/1.1 framing; False for an HTTP/1.0 client, whose body ends with the connection.
        `interval_tokens`: in a chunk, but for the first, which has one, and the last.
        `ends_properly`: False leaves out all that follows the last token.
        `broken_after`: the stream breaks instead of its next token when so many were sent, None never; with
        `tells_of_break` by an error event, otherwise in the middle.
        """
        self.write_ns: list[int] = []
        self.cached_tokens = 0
        self.timings: Timings | None = None
        self._kept_alive_ns = clock.now_ns()
        self.told_of_break = False
        self._transport = transport
        self._head = head
        self._request = request
        self._chunked = chunked
        self._interval_tokens = interval_tokens
        self._ends_properly = ends_properly
        self._broken_after = broken_after
        self._tells_of_break = tells_of_break
        self._sent = 0
        # Chunks of one token then differ in its bytes alone; all others are built one by one.
        self._plain = (
            interval_tokens == 1 and broken_after is None and request.logprobs is None and not request.continuous_usage
        )
        token = event(head.chunk([token_choice(head.kind, PLACEHOLDER)]))
        before, _, after = self._frame(token).rpartition(PLACEHOLDER.encode())
        self._before, self._after = before, after

    def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
        if self._plain:
            if count == 1 and number and finish is None:
                data = self._before + TOKEN_BYTES[number % len(TOKEN_BYTES)] + self._after
                self.write_ns.append(at_ns := self._write(data))
                return at_ns
            self._sent = number
        known = number + count
        if finish is None and number and known - self._sent < self._interval_tokens:
            return clock.now_ns()
        if self._broken_after is not None and known > self._broken_after:
            self._break()
        if number == 0 and self._head.kind == "chat":
            self._write(self._frame(event(self._head.chunk([role_choice(self._head.dialect)], self._usage_now(0)))))
        if finish is not None and self._ends_properly:
            data = self._frames_at_the_end(known, finish)
        else:
            choice = token_choice(self._head.kind, text_of(range(self._sent, known)), self._logprobs(known))
            data = self._frame(event(self._head.chunk([choice], self._usage_now(known))))
        self._sent = known
        self.write_ns.append(at_ns := self._write(data))
        return at_ns

    def keep_alive(self) -> None:
        """A comment that says nothing, for proxies that cut silent connections."""
        self._kept_alive_ns = self._write(self._frame(KEEP_ALIVE))

    @property
    def last_write_ns(self) -> int:
        """Of tokens or to keep the stream alive; when it began, if there was none."""
        return max([self._kept_alive_ns, *self.write_ns[-1:]])

    def _write(self, data: bytes) -> int:
        """When the data was handed over, read before it was."""
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            raise SlowClientError
        # Before the write, not after: on loopback the receiver's kernel stamps the segment inside the send call, and
        # afterwards the stamp would hold the wake-up of the reader too.
        at_ns = clock.now_ns()
        transport.write(data)
        return at_ns

    def _break(self) -> None:
        if self._tells_of_break:
            self._write(self._frame(error_events(self._head.dialect, "The engine could not go on.")))
            self.told_of_break = True
        raise BrokenStreamError

    def _frames_at_the_end(self, tokens: int, finish: FinishReason) -> bytes:
        head, request = self._head, self._request
        stop = request.stop if finish == "stop" and _ends_at_stop(request, tokens) else None
        text = _kept(text_of(range(self._sent, tokens)), stop)
        reason = None if stop is None else stop.text
        chunks = [
            head.chunk([choice], self._usage_now(tokens))
            for choice in last_choices(head, text, finish, reason, self._logprobs(tokens))
        ]
        if request.include_usage:
            chunks.append(head.chunk([], head.usage(request.prompt_tokens, tokens, self.cached_tokens)))
        chunks[-1] |= _timings(head, request, self.timings, self.cached_tokens, tokens)
        return b"".join(self._frame(event(chunk)) for chunk in chunks) + self._frame(DONE)

    def _usage_now(self, tokens: int) -> dict[str, Any] | None:
        if not self._request.continuous_usage:
            return None
        return self._head.usage(self._request.prompt_tokens, tokens, self.cached_tokens)

    def _logprobs(self, known: int) -> dict[str, Any] | None:
        candidates = self._request.logprobs
        return None if candidates is None else logprobs_of(self._head.kind, range(self._sent, known), candidates)

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data


def _ends_at_stop(request: CompletionRequest, tokens: int) -> bool:
    return request.stop is not None and request.stop.after_tokens == tokens


def _kept(text: str, stop: StopString | None) -> str:
    """The text without the stop string, as far as it lies in the last token: the tokens before it have left."""
    return text if stop is None else text[: len(text) - TOKEN_CHARACTERS + stop.kept_characters]


def _timings(
    head: AnswerHead, request: CompletionRequest, timings: Timings | None, cached_tokens: int, output_tokens: int
) -> dict[str, Any]:
    if head.dialect != "llamacpp" or timings is None:
        return {}
    told = timings_of(
        timings, prompt_tokens=request.prompt_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens
    )
    return {"timings": told}
