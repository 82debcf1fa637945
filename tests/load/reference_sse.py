"""Server-sent events as the standard says, written to be plainly right: what the reader is held against."""

from dataclasses import dataclass

from loadstair.load.sse import EventReader


@dataclass
class Event:
    kind: bytes
    data: bytes
    end: int


def reference_events(body: bytes) -> list[Event]:
    """The algorithm of WHATWG HTML 9.2.6, one byte at a time.

    Two things differ, as in the reader: what stands at the end of the stream without its empty line counts, and a
    field called "error" makes an event of that type.
    """
    events: list[Event] = []
    kind, data, line = b"", b"", b""

    def dispatch(end: int) -> None:
        nonlocal kind, data
        if data:
            events.append(Event(kind, data.removesuffix(b"\n"), end))
        kind, data = b"", b""

    def take(line: bytes, end: int) -> None:
        nonlocal kind, data
        if not line:
            dispatch(end)
            return
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            kind = value
        elif field == b"error":
            kind, data = b"error", data + value + b"\n"

    position = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    while position < len(body):
        byte = body[position : position + 1]
        position += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and body[position : position + 1] == b"\n":
            position += 1
        take(line, position)
        line = b""
    if line:
        take(line, position)
    dispatch(len(body))
    return events


def drain(reader: EventReader, work_max: int, *, complete: bool) -> list[Event]:
    events = []
    while True:
        before = reader.work
        for data in reader.events(before + work_max, complete=complete):
            events.append(Event(bytes(reader.event_type), bytes(data), reader.end_offset))
        reader.drop()
        if reader.ended or reader.work < before + work_max:
            return events
