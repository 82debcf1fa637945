"""A buffered response → its tokens and when each came. Pure: bytes and stamps in, values out.

The server-sent events of OpenAI's chat and completions endpoints, as vLLM, SGLang, llama.cpp and others send them.
An event's time is the stamp of the arrival that completed it. Parsing goes in bounded slices (`advance`), because
on a worker many streams may end together, and parsing all of them in a row would make the next reads late. A stream
that is still under way can be parsed as far as it has come; nothing is parsed twice.
Source: WHATWG HTML, server-sent events; OpenAI API reference, streaming.
"""

import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from loadstair.plain import one_line
from loadstair.samples.record import Outcome
from loadstair.units import NS_PER_MS

EVENT_BYTES_MAX: Final = 256 * 1024
"""An event is parsed in one go: at worst, JSON nested densely, this many bytes take about 4 ms."""
WORK_PER_EVENT: Final = 16
BYTES_PER_WORK: Final = 64
LATE_READ_NS_MIN: Final = NS_PER_MS // 2
LATE_READ_GAP_SHARE: Final = 0.1
TOKENS_MAX: Final = 2**31 - 1
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_RETURN: Final = ord("\r")
_TEXT_KEYS: Final = ("content", "reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What one stream said. The fields are those of `RequestSample`."""

    outcome: Outcome
    error: str | None
    finish_reason: str | None
    arrivals: Sequence[int]
    chunk_tokens: Sequence[int] | None
    output_tokens: int | None
    input_tokens: int | None
    bunched: int
    bunched_late: int


class StreamParser:
    """Call `advance` until it returns True, then `timeline`.

    `body`, `kernel_ns`, `read_ns` and `end_offset` are those of an `Exchange`, and may grow between two calls; kernel
    stamps are used only if every arrival has one.
    """

    def __init__(
        self,
        body: bytes | bytearray,
        *,
        kernel_ns: Sequence[int],
        read_ns: Sequence[int],
        end_offset: Sequence[int],
    ) -> None:
        self._body = body
        self._kernel_ns = kernel_ns
        self._read_ns = read_ns
        self._end_offset = end_offset
        self._position = 0
        self._plain_newlines = True
        self._searched = 0
        """How far the body is known to hold no carriage return, as long as `_plain_newlines`."""
        self._arrival = 0
        self._data: list[bytes] = []
        self._events = 0
        self._work = 0
        self._done = False
        self._finished = False
        self._malformed: str | None = None
        self._stream_error: str | None = None
        self._finish_reason: str | None = None
        self._arrival_indexes = array("q")
        self._completion_counts: list[int | None] = []
        self._output_tokens: int | None = None
        self._input_tokens: int | None = None

    def advance(self, work_max: int, *, complete: bool = True) -> bool:
        """Parses on until so much more work is done, and the line it was at; True when the end is reached.

        With `complete` false, more of the body may come: the end is then that of the last complete line.
        """
        stop = self._work + work_max
        if self._plain_newlines:
            self._plain_newlines = self._body.find(b"\r", self._searched) < 0
            self._searched = len(self._body)
        while not self._finished and self._work < stop:
            if not self._next_line(complete):
                return True
        return self._finished

    @property
    def tokens(self) -> int:
        """That have come until now: as the latest chunk's usage says, or one for each chunk."""
        said = self._completion_counts[-1] if self._completion_counts else None
        return len(self._completion_counts) if said is None else said

    @property
    def work(self) -> int:
        """Done so far: 1 for each line and each 64 bytes of it, 16 more for an event. About 0.3 µs each."""
        return self._work

    def _next_line(self, complete: bool) -> bool:
        """Takes one line; an empty one completes an event, and so does the end of the body, as in the SDK.

        False, with nothing taken, if the line may still grow.
        """
        start = self._position
        end, after = self._line_end(start)
        # A carriage return at the very end may be the first half of a line end.
        if not complete and (after < 0 or (after == len(self._body) and self._body[-1] == _RETURN)):
            return False
        self._work += 1 + ((end if after >= 0 else len(self._body)) - start) // BYTES_PER_WORK
        if after < 0:
            if start < len(self._body):
                self._take_line(start, len(self._body))
            self._dispatch(len(self._body))
            self._finished = True
        elif end == start:
            self._position = after
            self._dispatch(after)
        else:
            self._position = after
            self._take_line(start, end)
        return True

    def _line_end(self, start: int) -> tuple[int, int]:
        """Where the line ends and the next begins; (_, -1) if nothing ends it."""
        if self._plain_newlines:
            end = self._body.find(b"\n", start)
            return end, end + 1 if end >= 0 else -1
        match = _LINE_END.search(self._body, start)
        return match.span() if match else (-1, -1)

    def _take_line(self, start: int, end: int) -> None:
        if start == 0 and self._body.startswith(_BOM):
            start = len(_BOM)
        if end - start > EVENT_BYTES_MAX:
            self._fail(f"a line longer than {EVENT_BYTES_MAX} bytes")
        elif self._body.startswith(b"data:", start, end):
            first = start + 6 if self._body.startswith(b" ", start + 5, end) else start + 5
            self._data.append(bytes(self._body[first:end]))

    def _dispatch(self, end: int) -> None:
        if not self._data:
            return
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._events += 1
        self._work += WORK_PER_EVENT
        if len(data) > EVENT_BYTES_MAX:
            self._fail(f"an event longer than {EVENT_BYTES_MAX} bytes")
            return
        if data == b"[DONE]":
            self._done = self._finished = True
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            self._fail("an event that is not JSON")
            return
        if not isinstance(chunk, dict):
            self._fail("an event that is not a JSON object")
            return
        self._take_chunk(chunk, end)

    def _take_chunk(self, chunk: dict[str, Any], end: int) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            self._stream_error = _error_kind(chunk)
            self._finished = True
            return
        usage = chunk.get("usage")
        completed = self._take_usage(usage) if isinstance(usage, dict) else None
        choices = chunk.get("choices")
        if choices is None:
            return
        if not isinstance(choices, list):
            self._fail("an event whose choices are not a list")
            return
        carries_text = False
        for choice in choices:
            if not isinstance(choice, dict):
                self._fail("an event whose choice is not an object")
                return
            carries_text = _carries_text(choice) or carries_text
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                self._finish_reason = one_line(reason, 32)
        if carries_text:
            self._take_token_chunk(end, completed)

    def _take_usage(self, usage: dict[str, Any]) -> int | None:
        prompt, completed = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if prompt is not None:
            self._input_tokens = prompt
        if completed is not None:
            self._output_tokens = completed
        return completed

    def _take_token_chunk(self, end: int, completed: int | None) -> None:
        offsets, index = self._end_offset, self._arrival
        while offsets[index] < end:
            index += 1
        self._arrival = index
        self._arrival_indexes.append(index)
        self._completion_counts.append(completed)

    def _fail(self, why: str) -> None:
        self._malformed = why
        self._finished = True

    def timeline(self) -> Timeline:
        outcome, error = self._verdict()
        kernel_stamped = 0 not in self._kernel_ns
        stamps = self._kernel_ns if kernel_stamped else self._read_ns
        arrivals = array("q", [stamps[index] for index in self._arrival_indexes])
        bunched, late = self._bunched(arrivals, kernel_stamped=kernel_stamped)
        return Timeline(
            outcome=outcome,
            error=error,
            finish_reason=self._finish_reason,
            arrivals=arrivals,
            chunk_tokens=_chunk_tokens(self._completion_counts),
            output_tokens=self._output_tokens,
            input_tokens=self._input_tokens,
            bunched=bunched,
            bunched_late=late,
        )

    def _verdict(self) -> tuple[Outcome, str | None]:
        if self._malformed is not None:
            return Outcome.MALFORMED, self._malformed
        if self._stream_error is not None:
            return Outcome.STREAM_ERROR, self._stream_error
        if not self._events and self._body:
            return Outcome.MALFORMED, "no event stream"
        if not self._done and self._finish_reason is None:
            return Outcome.TRUNCATED, "the stream ended without finish_reason or [DONE]"
        return Outcome.OK, None

    def _bunched(self, arrivals: "array[int]", *, kernel_stamped: bool) -> tuple[int, int]:
        """Token chunks that share an arrival with an earlier one, and those of them that our own late read merged.

        A read merges arrivals when it is late by a token gap. How late it was for the first of them is unknown: the
        kernel keeps the newest stamp. A read that lags behind even that one by a tenth of the median gap counts as
        late; what the server or a proxy merged is read at once.
        """
        indexes = self._arrival_indexes
        shared = [index for index, before in zip(indexes[1:], indexes, strict=False) if index == before]
        if not shared or not kernel_stamped:
            return len(shared), 0
        gaps = [late - early for late, early in zip(arrivals[1:], arrivals, strict=False) if late != early]
        limit_ns = max(LATE_READ_NS_MIN, LATE_READ_GAP_SHARE * median(gaps)) if gaps else LATE_READ_NS_MIN
        late = sum(self._read_ns[index] - self._kernel_ns[index] > limit_ns for index in shared)
        return len(shared), late


def _count(value: object) -> int | None:
    """None where a server sends something that can be no token count."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX:
        return value
    return None


def _carries_text(choice: dict[str, Any]) -> bool:
    """Whether a choice brings content or reasoning text; the role chunk and a null content do not."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return any(isinstance(text := delta.get(key), str) and text for key in _TEXT_KEYS)
    text = choice.get("text")
    return isinstance(text, str) and bool(text)


def _chunk_tokens(counts: list[int | None]) -> list[int] | None:
    """Tokens in each chunk from the running count in its usage; None unless every chunk had one and none went back."""
    tokens: list[int] = []
    before = 0
    for count in counts:
        if count is None or count < before:
            return None
        tokens.append(count - before)
        before = count
    return tokens or None


def _error_kind(chunk: dict[str, Any]) -> str:
    """Kind and code only: the message may quote the prompt."""
    error = chunk.get("error")
    source = error if isinstance(error, dict) else chunk
    details = [str(source[key]) for key in ("type", "code") if isinstance(source.get(key), str | int)]
    return one_line(": ".join(["error in the stream", *details]))
