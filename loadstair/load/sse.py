"""The server-sent events in the body of an exchange, as far as it has come.

Almost every event of a language model's server is one line, `data: {…}`, and an empty one: those are found by two
searches. Everything else the standard allows goes line by line. What has been read is dropped from the body, so that
a stream of any length needs little memory while it runs.
Source: WHATWG HTML, 9.2 Server-sent events.
"""

import re
from collections.abc import Iterator
from typing import Final

from loadstair.load.alike import TEXT, Form
from loadstair.load.exchange import Exchange

EVENT_BYTES_MAX: Final = 256 * 1024
"""Also of a line. An event is parsed in one go: at worst, made to be slow, this many bytes take some 10 ms."""
WORK_PER_EVENT: Final = 6
WORK_PER_LINE: Final = 6
WORK_ALIKE: Final = 4
BYTES_PER_WORK: Final = 64
DROP_BYTES_MIN: Final = 4096
ERROR_TYPE: Final = b"error"
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_BOM: Final = b"\xef\xbb\xbf"
_RETURN: Final = ord("\r")


class EventReader:
    """Reads each event once. The body may grow between two calls of `events`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._position = 0
        """In the body as it is now, from which `exchange.dropped` bytes are gone."""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._next_type = b""
        self._returns = False
        """Whether there was a carriage return so far."""
        self._lone_returns = False
        """Whether one of them ends a line by itself: only then newlines do not tell all the lines."""
        self._searched = 0
        """How much of the answer was searched for them."""
        self.event_type = b""
        """Of the event last read; empty where the server named none."""
        self.end_offset = 0
        """Where it ended, in bytes of the whole answer."""
        self.work = 0
        """Done so far, in units of some 0.25 µs: an ordinary event of 200 bytes is 9 of them."""
        self.ended = False
        """The whole answer is read, or it went beyond a limit."""
        self.too_long: str | None = None

    def events(self, work_stop: int, *, complete: bool) -> Iterator[bytes | bytearray]:
        """The data of each event that is complete, until `work` has reached so much.

        With `complete` false, more of the body may come: the end is then that of the last complete line. At the end
        of the answer an event counts without its empty line, as in the openai SDK; the standard would discard it.
        """
        self._search_returns(complete)
        length = len(self._exchange.body)
        while self.work < work_stop and not self.ended:
            before = self._position
            if before == length and not complete:
                return
            data = self._next_whole_event()
            if data is None:
                data = self._next_line(complete)
            if data is not None:
                yield data
            elif self._position == before:
                return

    def take_alike(self, form: Form) -> bool:
        """Takes the next event if it has this form. `event_type` stays: an event of another type has another form."""
        if self._data or self._next_type or self._lone_returns:
            return False
        body, start = self._exchange.body, self._position
        if not body.startswith(form.head, start):
            return False
        # Of the tail, two bytes stand behind the line.
        match = TEXT.match(body, start + len(form.head), start + EVENT_BYTES_MAX + 2 - len(form.tail))
        if match is None or not body.startswith(form.tail, match.end()):
            return False
        self._position = after = match.end() + len(form.tail)
        self.end_offset = self._exchange.dropped + after
        self.work += WORK_ALIKE
        return True

    def drop(self) -> None:
        """Frees what has been read, once that is worth the while."""
        if self._position >= DROP_BYTES_MIN or (self.ended and self._position):
            del self._exchange.body[: self._position]
            self._exchange.dropped += self._position
            self._position = 0

    def drop_all(self) -> None:
        """For a stream of which nothing more is wanted."""
        self.ended = True
        self._position = len(self._exchange.body)
        self.drop()

    def _search_returns(self, complete: bool) -> None:
        body, dropped = self._exchange.body, self._exchange.dropped
        start, end = self._searched - dropped, len(body)
        if body.find(b"\r", start) >= 0:
            # One at the very end may be the first half of a line end.
            if not complete and body[-1] == _RETURN:
                end -= 1
            self._returns = True
            if body.count(b"\r", start, end) > body.count(b"\r\n", start):
                self._lone_returns = True
        self._searched = dropped + end

    def _next_whole_event(self) -> bytes | bytearray | None:
        """Takes `data: …`, its line end and an empty line; None, with nothing taken, if something else is next."""
        body, start = self._exchange.body, self._position
        if self._data or self._next_type or self._lone_returns or not body.startswith(b"data: ", start):
            return None
        end = body.find(b"\n", start)
        if not 0 <= end <= start + EVENT_BYTES_MAX:
            return None
        if body.startswith(b"\n", end + 1):
            after = end + 2
        elif self._returns and body.startswith(b"\r\n", end + 1):
            after = end + 3
        else:
            return None
        if self._returns and body[end - 1] == _RETURN:
            end -= 1
        self._position = after
        self.end_offset = self._exchange.dropped + after
        self.event_type = b""
        self.work += WORK_PER_EVENT + (end - start) // BYTES_PER_WORK
        return body[start + 6 : end]

    def _next_line(self, complete: bool) -> bytes | bytearray | None:
        """Takes one line; the event's data if it ends one. Takes nothing if the line may still grow."""
        body, start = self._exchange.body, self._position
        end, after = self._line_end(start, complete)
        # What may grow may have the carriage return of its end already.
        longest = EVENT_BYTES_MAX if after >= 0 or complete else EVENT_BYTES_MAX + 1
        if end - start > longest:
            self._give_up(f"a line longer than {EVENT_BYTES_MAX} bytes")
            return None
        if after < 0 and not complete:
            return None
        self.work += WORK_PER_LINE + (end - start) // BYTES_PER_WORK
        if end > start:
            self._take_line(start, end)
        if after < 0:
            self.ended = True
            self._position = len(body)
            return self._dispatch()
        self._position = after
        return self._dispatch() if end == start else None

    def _line_end(self, start: int, complete: bool) -> tuple[int, int]:
        """Where the line ends and where the next begins; that is -1 if nothing ends it yet."""
        body = self._exchange.body
        if not self._lone_returns:
            end = body.find(b"\n", start)
            if end < 0:
                return len(body), -1
            return end - 1 if end > start and body[end - 1] == _RETURN else end, end + 1
        match = _LINE_END.search(body, start)
        if match is None:
            return len(body), -1
        end, after = match.span()
        may_grow = not complete and after == len(body) and body[-1] == _RETURN
        return end, -1 if may_grow else after

    def _take_line(self, start: int, end: int) -> None:
        body = self._exchange.body
        if start == 0 and self._exchange.dropped == 0 and body.startswith(_BOM):
            start = len(_BOM)
        name, _, value = bytes(body[start:end]).partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > EVENT_BYTES_MAX:
                self._give_up(f"an event longer than {EVENT_BYTES_MAX} bytes")
        elif name == b"event":
            self._next_type = value
        elif name == ERROR_TYPE:
            # No field of the standard, but what llama.cpp's server sent in place of an event of this type until 2025.
            self._next_type = ERROR_TYPE
            self._data.append(value)

    def _dispatch(self) -> bytes | bytearray | None:
        """Ends an event; None if it has no data, which makes it none."""
        data, self.event_type = self._data, self._next_type
        self._data, self._data_bytes, self._next_type = [], 0, b""
        if not data or self.too_long is not None:
            return None
        self.work += WORK_PER_EVENT
        self.end_offset = self._exchange.dropped + self._position
        return data[0] if len(data) == 1 else b"\n".join(data)

    def _give_up(self, why: str) -> None:
        self.too_long = why
        self.ended = True
