"""An exchange → its tokens and when each came. Pure: bytes and stamps in, values out.

An event's time is the stamp of the arrival that completed it. Parsing goes in bounded slices (`advance`), because
on a worker many streams may end together, and parsing all of them in a row would make the next reads late. A stream
that is still under way can be parsed as far as it has come; nothing is parsed twice, and what is parsed is dropped.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadstair.load.alike import Form
from loadstair.load.bunching import Bunching, bunching
from loadstair.load.chunks import (
    TOKENS_MAX,
    Choice,
    Chunk,
    ChunkError,
    Fault,
    Usage,
    carries_output,
    decode_chunk,
    listed_tokens,
)
from loadstair.load.exchange import Exchange
from loadstair.load.sse import ERROR_TYPE, EventReader
from loadstair.plain import one_line
from loadstair.samples.record import Outcome

FORMS_MAX: Final = 3
UNLIKE_MAX: Final = 2
LENIENT_WORK: Final = 20
LENIENT_BYTES_PER_WORK: Final = 8
"""An event that is not read strictly costs so much more."""
FAILED_REASONS: Final = ("abort", "error")
"""What vLLM, SGLang and Mistral's API give as the finish_reason of a request that the server gave up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What one stream said. Most fields are those of `RequestSample`."""

    outcome: Outcome
    error: str | None
    finish_reason: str | None
    arrivals: Sequence[int]
    chunk_tokens: Sequence[int] | None
    output_tokens: int | None
    input_tokens: int | None
    cached_input_tokens: int | None
    """Of `input_tokens`, those that the server says it had in its prefix cache."""
    bunching: Bunching


NO_STREAM: Final = Timeline(
    outcome=Outcome.MALFORMED,
    error=None,
    finish_reason=None,
    arrivals=(),
    chunk_tokens=None,
    output_tokens=None,
    input_tokens=None,
    cached_input_tokens=None,
    bunching=Bunching(0, 0, 0),
)
"""Of a request without one: nothing came."""


class StreamParser:
    """Call `advance` until it returns True, then `timeline`. The exchange may grow between two calls."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reader = EventReader(exchange)
        self._events = 0
        self._finished = False
        self._done = False
        self._malformed: str | None = None
        self._stream_error: str | None = None
        self._finish_reason: str | None = None
        self._open_choices: set[int] = set()
        self._finished_choices: set[int] = set()
        self._form: Form | None = None
        self._forms_left = FORMS_MAX
        """To be tried until one proves right."""
        self._unlike = 0
        """How often in a row the form was not that of the next event."""
        self._arrival = 0
        self._arrival_indexes = array("I")
        self._usage_counts: array[int] | None = array("i")
        """The running count in the usage of each token chunk; None once there was a chunk without."""
        self._listed_counts: array[int] | None = array("i")
        """The same from the tokens that the chunks list."""
        self._listed = 0
        self._tokens_said: int | None = None
        self._output_tokens: int | None = None
        self._input_tokens: int | None = None
        self._cached_input_tokens: int | None = None

    def advance(self, work_max: int, *, complete: bool = True) -> bool:
        """Parses on until so much more work is done, and the event it was at; True when the end is reached.

        With `complete` false, more of the body may come: the end is then that of the last complete line.
        """
        reader = self._reader
        if not self._finished:
            stop = reader.work + work_max
            self._take_alike(stop)
            for data in reader.events(stop, complete=complete):
                self._finished = self._take_event(data)
                if self._finished:
                    break
                self._take_alike(stop)
            if reader.too_long is not None:
                self._finished = self._fail(reader.too_long)
        if self._finished:
            reader.drop_all()
            return True
        reader.drop()
        return reader.ended or reader.work < stop

    @property
    def tokens(self) -> int:
        """That have come until now: as the latest chunk's usage says, or one for each chunk."""
        return len(self._arrival_indexes) if self._tokens_said is None else self._tokens_said

    @property
    def first_token_ns(self) -> int | None:
        """Stamp of the first chunk that carried output; None until one was parsed."""
        return self._exchange.stamps_ns[self._arrival_indexes[0]] if self._arrival_indexes else None

    @property
    def work(self) -> int:
        """Done so far, in the unit of `EventReader.work`."""
        return self._reader.work

    def _take_alike(self, stop: int) -> None:
        """Takes all events that say what the one before them said, with another text."""
        form = self._form
        if form is None:
            return
        reader, offsets, index, indexes = self._reader, self._exchange.end_offset, self._arrival, self._arrival_indexes
        taken = len(indexes)
        while reader.work < stop and reader.take_alike(form):
            while offsets[index] < reader.end_offset:
                index += 1
            indexes.append(index)
        taken = len(indexes) - taken
        self._arrival = index
        self._events += taken
        if taken:
            self._forms_left, self._unlike = FORMS_MAX, 0
            self._tokens_said = None
        else:
            self._unlike += 1

    def _learn_form(self, chunk: Chunk, data: bytes | bytearray) -> None:
        """Of what others may be alike. In some streams no two are: that is not tried for long."""
        if self._form is not None and self._unlike < UNLIKE_MAX:
            return
        self._form = Form.of(chunk, data) if self._forms_left else None
        self._forms_left = max(0, self._forms_left - 1)
        self._unlike = 0

    def _take_event(self, data: bytes | bytearray) -> bool:
        """True if it ends the stream."""
        self._events += 1
        try:
            chunk, strictly = decode_chunk(data)
        except ChunkError as error:
            return self._take_other_event(data, str(error))
        if not strictly:
            self._add_lenient_work(data)
        if chunk.failed() or self._reader.event_type == ERROR_TYPE:
            return self._fail_stream(chunk.fault())
        self._take_chunk(chunk)
        if strictly and not self._reader.event_type:
            self._learn_form(chunk, data)
        return False

    def _take_other_event(self, data: bytes | bytearray, why: str) -> bool:
        self._add_lenient_work(data)
        if self._reader.event_type == ERROR_TYPE:
            return self._fail_stream(Fault())
        if data.startswith(b"[DONE]"):
            self._done = True
            return True
        # Empty data is no chunk, but some gateways send it to keep a connection awake.
        return bool(data.strip()) and self._fail(why)

    def _add_lenient_work(self, data: bytes | bytearray) -> None:
        self._reader.work += LENIENT_WORK + len(data) // LENIENT_BYTES_PER_WORK

    def _take_chunk(self, chunk: Chunk) -> None:
        usage = chunk.usage
        completed = None if usage is None else self._take_usage(usage)
        if not chunk.choices:
            return
        output = False
        for choice in chunk.choices:
            if choice.finish_reason:
                self._finish_choice(choice.index, choice.finish_reason)
            elif choice.index not in self._finished_choices:
                self._open_choices.add(choice.index)
            output = carries_output(choice) or output
        if self._listed_counts is not None:
            self._count_listed(chunk.choices, output=output)
        if output:
            self._take_token_chunk(completed)

    def _finish_choice(self, index: int, reason: str) -> None:
        self._finished_choices.add(index)
        self._open_choices.discard(index)
        self._finish_reason = one_line(reason, 32)
        if reason in FAILED_REASONS:
            self._stream_error = f"finish_reason {reason}"

    def _take_usage(self, usage: Usage) -> int | None:
        if usage.prompt_tokens is not None:
            self._input_tokens = usage.prompt_tokens
        if usage.completion_tokens is not None:
            self._output_tokens = usage.completion_tokens
        if usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens is not None:
            self._cached_input_tokens = usage.prompt_tokens_details.cached_tokens
        return usage.completion_tokens

    def _count_listed(self, choices: list[Choice], *, output: bool) -> None:
        """Chunks without output count too: their tokens show in the text of a later one."""
        counts = [listed_tokens(choice) for choice in choices]
        self._listed = min(self._listed + sum(count for count in counts if count is not None), TOKENS_MAX)
        if not output or self._listed_counts is None:
            return
        if None in counts:
            self._listed_counts = None
        else:
            self._listed_counts.append(self._listed)

    def _take_token_chunk(self, completed: int | None) -> None:
        offsets, index, end = self._exchange.end_offset, self._arrival, self._reader.end_offset
        while offsets[index] < end:
            index += 1
        self._arrival = index
        self._arrival_indexes.append(index)
        self._tokens_said = completed
        if self._usage_counts is not None:
            if completed is None:
                self._usage_counts = None
            else:
                self._usage_counts.append(completed)

    def _fail(self, why: str) -> bool:
        self._malformed = why
        return True

    def _fail_stream(self, fault: Fault) -> bool:
        kind = fault.kind()
        self._stream_error = one_line(f"error in the stream: {kind}" if kind else "error in the stream")
        return True

    def timeline(self) -> Timeline:
        outcome, error = self._verdict()
        stamps = self._exchange.stamps_ns
        return Timeline(
            outcome=outcome,
            error=error,
            finish_reason=self._finish_reason,
            arrivals=array("q", [stamps[index] for index in self._arrival_indexes]),
            chunk_tokens=_differences(self._usage_counts) or _differences(self._listed_counts),
            output_tokens=self._output_tokens,
            input_tokens=self._input_tokens,
            cached_input_tokens=self._cached_input_tokens,
            bunching=bunching(self._exchange, self._arrival_indexes),
        )

    def _verdict(self) -> tuple[Outcome, str | None]:
        if self._malformed is not None:
            return Outcome.MALFORMED, self._malformed
        if self._stream_error is not None:
            return Outcome.STREAM_ERROR, self._stream_error
        if not self._events and self._exchange.body_bytes:
            return Outcome.MALFORMED, "no event stream"
        if self._done:
            return Outcome.OK, None
        if not self._finished_choices:
            return Outcome.TRUNCATED, "the stream ended without finish_reason or [DONE]"
        if self._open_choices:
            seen = len(self._open_choices | self._finished_choices)
            return Outcome.TRUNCATED, f"the stream ended with {len(self._open_choices)} of {seen} choices unfinished"
        return Outcome.OK, None


def _differences(counts: "array[int] | None") -> list[int] | None:
    """Tokens in each chunk from the running count; None if that is not known or went back."""
    if not counts:
        return None
    tokens = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    return None if min(tokens) < 0 else tokens
