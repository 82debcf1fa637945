"""A small HTTP server that answers as its path's first segment says: well, oddly or not at all.

Prints its port, then serves until it is killed; with a PEM file (key and
certificate) as argument, over TLS.

`/normal/v1/chat/completions` streams `max_tokens` tokens, GAP_S apart.
`/ledger` answers, as JSON, what it did: for each request id, when it wrote each token (CLOCK_REALTIME ns), and the
Authorization and Host headers that came, in small letters.
"""

import asyncio
import contextlib
import json
import ssl
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from functools import partial

GAP_S = 0.02
ANSWERED_UNREAD = {"unread", "unread-hint", "unread-close"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ledger: dict[str, dict[str, object]] = {}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def token(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def role() -> bytes:
    return event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})


def finish(tokens: int, words: int) -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}) + event(
        {"choices": [], "usage": {"prompt_tokens": words, "completion_tokens": tokens}}
    )


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def short_stream(tokens: int) -> bytes:
    return role() + b"".join(token(f"t{n} ") for n in range(tokens)) + finish(tokens, 5) + b"data: [DONE]\n\n"


class Request:
    def __init__(
        self, path: str, headers: dict[str, str], body: bytes, rest: Callable[[], Awaitable[bytes]] | None = None
    ) -> None:
        self.script = path.split("/")[1]
        self.path = path
        self.headers = headers
        self.rest = rest
        """Reads the body, of scripts that answer before they do."""
        self.body = json.loads(body) if body else {}
        self.number = 1
        """Which one on its connection."""
        self.id = headers.get("x-request-id", "")

    def words(self) -> int:
        return sum(len(message["content"].split()) for message in self.body["messages"])


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) if ": " in line else (line, "") for line in lines[1:] if line)
    path = lines[0].split()[1]
    length = int(headers.get("content-length", 0))
    if path.split("/")[1] in ANSWERED_UNREAD:
        return Request(path, headers, b"", rest=partial(reader.readexactly, length))
    return Request(path, headers, await reader.readexactly(length))


async def stream_tokens(request: Request, writer: asyncio.StreamWriter, *, gzip: bool = False) -> None:
    packer = zlib.compressobj(wbits=31)

    def piece(data: bytes) -> bytes:
        return chunked(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH) if gzip else data)

    tokens = request.body["max_tokens"]
    entry: dict[str, object] = {
        "written_ns": [],
        "began_ns": time.time_ns(),
        "authorization": request.headers.get("authorization"),
        "host": request.headers["host"],
    }
    ledger[request.id] = entry
    head = HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" if gzip else CHUNKED
    writer.write(head + piece(role()))
    for number in range(tokens):
        await asyncio.sleep(GAP_S)
        data = piece(token(f"t{number} "))
        entry["written_ns"].append(time.time_ns())  # type: ignore[attr-defined]
        writer.write(data)
        await writer.drain()
    writer.write(piece(finish(tokens, request.words())) + piece(b"data: [DONE]\n\n"))
    if gzip:
        writer.write(chunked(packer.flush()))
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def encoded(encoding: str, body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(level=1, wbits=wbits)
    packed = packer.compress(body) + packer.flush()
    return HEAD + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(packed)) + packed


async def answer(request: Request, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection stays open."""
    whole = short_stream(request.body.get("max_tokens", 3) if request.body else 3)
    match request.script:
        case "ledger":
            body = json.dumps(ledger).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        case "normal":
            await stream_tokens(request, writer)
        case "split":  # every byte in a segment of its own
            for byte in CHUNKED + chunked(whole[:400]) + chunked(whole[400:]) + b"0\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
        case "length":
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "close-delimited":
            writer.write(HEAD + b"Connection: close\r\n\r\n" + whole)
            return False
        case "close-after-stream":  # promises to keep the connection, and closes it
            writer.write(
                HEAD + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(whole) + b"0\r\n\r\n"
            )
            return False
        case "early-hints":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "hints-only":
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            return False
        case "endless-hints":
            while True:
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
                await writer.drain()
        case "gzip":
            await stream_tokens(request, writer, gzip=True)
        case "gzip-members":
            packed = b"".join(zlib.compress(part, wbits=31) for part in (whole[:100], whole[100:]))
            writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
        case "deflate":
            writer.write(encoded("deflate", whole, 15))
        case "raw-deflate":
            writer.write(encoded("deflate", whole, -15))
        case "gzip-500":
            writer.write(
                encoded("gzip", b'{"error": {"message": "no", "type": "overloaded"}}', 31).replace(
                    b"200 OK", b"500 Odd"
                )
            )
        case "gzip-bomb":
            writer.write(encoded("gzip", whole + b" " * 3_000_000, 31))
        case "gzip-cut":
            writer.write(encoded("gzip", whole, 31).replace(b"Content-Length", b"X-Length")[:-9])
            return False
        case "not-gzip":
            writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)
        case "brotli":
            writer.write(encoded("br", whole, -15))
        case "http-1.0":
            writer.write(HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + whole)
            return False
        case "closing":
            writer.write(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)
            return False
        case "surplus":  # an answer that nobody asked for, right behind the one that was
            answer_bytes = HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole
            writer.write(answer_bytes + answer_bytes)
        case "surplus-garbage":
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole + b"garbage")
        case "trailers":
            writer.write(CHUNKED + chunked(whole) + b"0\r\nServer-Timing: total;dur=5\r\nX-Sum: 1\r\n\r\n")
        case "no-content":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        case "redirect":
            writer.write(
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://u:secret@other.example:8080/v1?key=secret\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
        case "head-only":
            writer.write(CHUNKED)
            await writer.drain()
            await asyncio.sleep(60)
        case "foreign-header":
            head = HEAD + "Server: Z\u00fcrich\r\nX-Served-By: ".encode() + b"caf\xe9\r\n"
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "large-chunk":
            writer.write(CHUNKED + chunked(role() + token("x" * 200_000) + finish(1, 5)) + b"0\r\n\r\n")
        case "unread":  # answers when it has the head, and reads no further
            body = b'{"error": {"type": "too_large"}}'
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            await asyncio.sleep(60)
        case "unread-hint":  # goes on reading after an interim answer
            await asyncio.sleep(GAP_S)
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(GAP_S)
            if request.rest is not None:
                await request.rest()
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "fails-late":  # has the second request on a connection for a while, and then gives up
            if request.number > 1:
                await asyncio.sleep(1.2)
                return False
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "abrupt":  # over TLS: without its close_notify
            writer.write(HEAD + b"Connection: close\r\n\r\n" + whole)
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.transport.abort()
            return False
        case "fickle":  # closes a connection at its second request, without a word
            if request.number > 1:
                return False
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        case "too-large" | "unread-close":  # refuses, and closes
            body = b'{"error": {"type": "too_large"}}'
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return False
        case "no-done":
            body = role() + token("a")
            writer.write(CHUNKED + chunked(body) + b"0\r\n\r\n")
        case "error-in-stream":
            body = (
                role()
                + token("a")
                + event({"error": {"message": "secret prompt", "type": "server_error", "code": 500}})
            )
            writer.write(CHUNKED + chunked(body) + b"0\r\n\r\n")
        case "html":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>")
        case "not-http":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            return False
        case "status-500" | "status-429" | "status-302":
            body = b'{"error": {"message": "no", "type": "overloaded"}}'
            code = request.script.removeprefix("status-").encode()
            writer.write(
                b"HTTP/1.1 %b Odd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (code, len(body))
                + body
            )
        case "cut":  # ends inside the body
            writer.write(CHUNKED + chunked(role() + token("a")))
            return False
        case "bad-frame":  # a chunk's frame that is none, in one segment with a good one before it
            writer.write(CHUNKED + chunked(role()))
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.write(chunked(token("a") + token("b")) + b"not a length\r\n")
        case "bad-at-once":  # the same, and the head in that segment too
            writer.write(CHUNKED + chunked(role() + token("a") + token("b")) + b"not a length\r\n")
        case "endless":
            writer.write(CHUNKED)
            while True:
                writer.write(chunked(token("x" * 4096)))
                await writer.drain()
        case "late-body":
            writer.write(CHUNKED)
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.write(chunked(whole) + b"0\r\n\r\n")
        case "mute":  # accepts and closes without a word
            return False
        case "stall":
            writer.write(CHUNKED + chunked(role() + token("a")))
            await writer.drain()
            await asyncio.sleep(60)
        case "silent":
            await asyncio.sleep(60)
        case "bunched":  # two events in one segment
            writer.write(CHUNKED + chunked(role()))
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.write(chunked(token("a") + token("b")))
            await writer.drain()
            await asyncio.sleep(GAP_S)
            writer.write(chunked(token("c") + finish(3, 5) + b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()
    return True


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        number = 0
        while (request := await read_request(reader)) is not None:
            number += 1
            request.number = number
            if not await answer(request, writer):
                break
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0, backlog=1024, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    # Where there is no IPv6, or somebody else has that port, on IPv4 alone.
    with contextlib.suppress(OSError):
        await asyncio.start_server(serve_connection, "::1", port, backlog=16, ssl=tls)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
