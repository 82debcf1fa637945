"""The transport under the openai SDK: HTTP/1.1 over gevent sockets that know when the kernel got each byte.

The read path does nothing but HTTP framing (llhttp, in C): a worker that is busy elsewhere reads late, and a late
read can merge two arrivals into one. Time limits are kept by one watchdog greenlet instead of a timer for each read.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import gevent
import httpx2
from gevent import ssl
from geventhttpclient.response import HTTPParseError, HTTPResponse

from loadstair.clock import monotonic_ns, now_ns
from loadstair.load.connection import Connection, PlainConnection, TlsConnection, open_socket, resolve, stamp_keeper
from loadstair.load.exchange import Exchange
from loadstair.plain import one_line
from loadstair.units import ns_from_s

HEAD_BYTES_MAX: Final = 256 * 1024
WATCH_S: Final = 0.25


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class TimeLimits(NamedTuple):
    connect_s: float
    request_s: float
    """From the send to the last byte."""
    idle_s: float
    """The longest gap between two reads of one response."""


class _Parser(HTTPResponse):
    """Puts the body into the exchange's buffer."""

    def __init__(self, body: bytearray) -> None:
        super().__init__(method="POST")
        self._body = body

    def _on_body(self, buf: bytearray) -> None:
        self._body += buf

    def header(self, name: str) -> str | None:
        value = self.get(name)
        return ", ".join(value) if isinstance(value, list) else value


class _SilentCloseError(Exception):
    """A reused connection ended before any byte of the answer: the server had already given it up."""


class Flight:
    """One request under way on one connection."""

    def __init__(self, connection: Connection, exchange: Exchange, request: httpx2.Request, *, reused: bool) -> None:
        self.connection = connection
        self.exchange = exchange
        self.parser = _Parser(exchange.body)
        self.timed_out: str | None = None
        self.started_ns = monotonic_ns()
        self.arrivals_seen = 0
        self.arrival_seen_ns = self.started_ns
        self._request = request
        self._reused = reused
        self._head_bytes = 0

    def send(self, message: bytes) -> None:
        # Before the call: afterwards the answer could already be there.
        self.exchange.sent_ns = now_ns()
        try:
            self.connection.send(message)
        except OSError as error:
            # A server may refuse a long request before it has read all of it: its answer is there to be read.
            if self._reused or self.timed_out is not None:
                raise self._broken(error) from error

    def read_head(self) -> None:
        """Reads until the headers of a final response are complete; some of the body may have come along."""
        while not self._head_complete():
            data, kernel_ns = self._receive()
            read_ns = now_ns()
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.parser.headers_complete:
                raise httpx2.RemoteProtocolError(f"headers longer than {HEAD_BYTES_MAX} bytes", request=self._request)
            try:
                self._feed(data, kernel_ns, read_ns)
            finally:
                # Also when what came right behind the head was bad.
                if self._head_complete():
                    self._note_head(kernel_ns or read_ns)
            if not data and not self._head_complete():
                raise self._broken(None)  # the end after an interim response (1xx)

    def _head_complete(self) -> bool:
        return bool(self.parser.headers_complete and self.parser.get_code() >= 200)

    def _note_head(self, stamp_ns: int) -> None:
        parser, exchange = self.parser, self.exchange
        exchange.headers_ns = stamp_ns
        exchange.status = parser.get_code()
        exchange.content_type = parser.header("content-type")
        upstream = parser.header("x-upstream-addr")
        exchange.upstream = None if upstream is None else one_line(upstream)

    def read_body(self) -> None:
        """Reads to the end of the body. The loop is the hot path of a load test: one turn for each arrival."""
        parser = self.parser
        while not parser.message_complete:
            data, kernel_ns = self._receive()
            self._feed(data, kernel_ns, now_ns())

    def _receive(self) -> tuple[bytes, int]:
        try:
            data, kernel_ns = self.connection.receive()
        except OSError as error:
            raise self._broken(error) from error
        if not data and not self.parser.headers_complete:
            raise self._broken(None)
        return data, kernel_ns

    def _feed(self, data: bytes, kernel_ns: int, read_ns: int) -> None:
        """Empty data is the end of the stream: it completes a body without a length, and breaks any other."""
        exchange = self.exchange
        body = exchange.body
        length = len(body)
        try:
            self.parser.feed(data)
        except HTTPParseError as error:
            if not data:
                raise self._broken(None) from error
            raise httpx2.RemoteProtocolError(f"not HTTP: {error.args[0]}", request=self._request) from error
        finally:
            # Also when what came behind it was bad: every byte of the body has its stamp.
            if len(body) != length:
                exchange.kernel_ns.append(kernel_ns)
                exchange.read_ns.append(read_ns)
                exchange.end_offset.append(len(body))
        if len(body) > exchange.body_bytes_max:
            message = f"body longer than {exchange.body_bytes_max} bytes, more than what was asked for can need"
            raise httpx2.RemoteProtocolError(message, request=self._request)
        if self.timed_out is not None or (not data and not self.parser.message_complete):
            raise self._broken(None)

    def _broken(self, error: OSError | None) -> Exception:
        if self.timed_out is not None:
            return httpx2.ReadTimeout(self.timed_out, request=self._request)
        if self._reused and not self._head_bytes:
            return _SilentCloseError()
        reason = "closed by the server" if error is None else str(error)
        where = "inside the body" if self.parser.headers_complete else "before the response"
        return httpx2.ReadError(f"connection broken {where}: {reason}", request=self._request)


class _Body(httpx2.SyncByteStream):
    """What the SDK holds: it reads error bodies through it, the client drains the flight itself."""

    def __init__(self, transport: "StampedTransport", flight: Flight, origin: Origin) -> None:
        self._transport = transport
        self._flight = flight
        self._origin = origin

    def __iter__(self) -> Iterator[bytes]:
        self.drain()
        yield bytes(self._flight.exchange.body)

    def drain(self) -> None:
        """Raises httpx2.TransportError."""
        self._flight.read_body()
        self.close()

    def close(self) -> None:
        self._transport.land(self._flight, self._origin)


class StampedTransport(httpx2.BaseTransport):
    """Connections are pooled by origin and reused newest first; there is no upper limit to their number.

    A request whose X-Request-Id was announced with `expect` fills that exchange, in whatever way it ends.
    """

    def __init__(self, *, limits: TimeLimits, keep_alive: bool, tls: ssl.SSLContext | None) -> None:
        """`tls` is used for https; None is the system's default, with verification."""
        self._limits = limits
        self._keep_alive = keep_alive
        self._tls = tls
        self._keeper = stamp_keeper()
        self._addresses: dict[Origin, list[tuple[int, int, int, object]]] = {}
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._expected: dict[str, Exchange] = {}
        self._bodies: dict[str, _Body] = {}
        self._flights: set[Flight] = set()
        self._watchdog: gevent.Greenlet[..., None] | None = None

    def expect(self, exchange: Exchange) -> None:
        self._expected[exchange.request_id] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Ends what is left of the request; a connection in the middle of a response is closed."""
        self._expected.pop(exchange.request_id, None)
        body = self._bodies.pop(exchange.request_id, None)
        if body is not None:
            body.close()

    def drain(self, exchange: Exchange) -> None:
        """Reads the response of an announced request to its end. Raises httpx2.TransportError."""
        self._bodies[exchange.request_id].drain()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request_id = request.headers.get("x-request-id", "")
        exchange = self._expected.get(request_id)
        if exchange is None:
            exchange = Exchange(request_id)
        message = _message(request, keep_alive=self._keep_alive)
        origin = _origin(request.url)
        connection = self._pooled(origin)
        if connection is not None:
            with contextlib.suppress(_SilentCloseError):
                return self._fly(connection, origin, exchange, request, message, reused=True)
        connection = self._connect(origin, exchange, request)
        return self._fly(connection, origin, exchange, request, message, reused=False)

    def _fly(
        self,
        connection: Connection,
        origin: Origin,
        exchange: Exchange,
        request: httpx2.Request,
        message: bytes,
        *,
        reused: bool,
    ) -> httpx2.Response:
        flight = Flight(connection, exchange, request, reused=reused)
        self._flights.add(flight)
        self._start_watchdog()
        try:
            flight.send(message)
            flight.read_head()
        except BaseException:
            self.land(flight, origin)
            raise
        body = _Body(self, flight, origin)
        if exchange.request_id in self._expected:
            self._bodies[exchange.request_id] = body
        return httpx2.Response(
            flight.parser.get_code(), headers=list(flight.parser.items()), stream=body, request=request
        )

    def land(self, flight: Flight, origin: Origin) -> None:
        """Keeps the connection for the next request if it is fit for one. Can be called twice."""
        if flight not in self._flights:
            return
        self._flights.discard(flight)
        if self._keep_alive and flight.timed_out is None and not flight.parser.should_close():
            self._idle[origin].append(flight.connection)
        else:
            flight.connection.close()

    def _pooled(self, origin: Origin) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _connect(self, origin: Origin, exchange: Exchange, request: httpx2.Request) -> Connection:
        began_ns = monotonic_ns()
        try:
            addresses = self._addresses.get(origin)
            if addresses is None:
                addresses = self._addresses[origin] = resolve(origin.host, origin.port)
            sock = open_socket(addresses, self._limits.connect_s)
            connection: Connection
            if origin.scheme == "https":
                if self._tls is None:
                    self._tls = ssl.create_default_context()
                connection = TlsConnection(sock, self._tls, origin.host)
            else:
                connection = PlainConnection(sock)
        except TimeoutError as error:
            message = f"no connection to {origin.host}:{origin.port} within {self._limits.connect_s:g} s"
            raise httpx2.ConnectTimeout(message, request=request) from error
        except OSError as error:
            raise httpx2.ConnectError(
                f"{origin.host}:{origin.port}: {error.strerror or error}", request=request
            ) from error
        exchange.connect_ns = monotonic_ns() - began_ns
        return connection

    def _start_watchdog(self) -> None:
        if self._watchdog is None:
            self._watchdog = gevent.spawn(self._watch)

    def _watch(self) -> None:
        while True:
            gevent.sleep(WATCH_S)
            now = monotonic_ns()
            for flight in list(self._flights):
                arrivals = len(flight.exchange.read_ns)
                if arrivals != flight.arrivals_seen:
                    flight.arrivals_seen, flight.arrival_seen_ns = arrivals, now
                if now - flight.started_ns > ns_from_s(self._limits.request_s):
                    flight.timed_out = f"not finished within {self._limits.request_s:g} s"
                elif arrivals and now - flight.arrival_seen_ns > ns_from_s(self._limits.idle_s):
                    flight.timed_out = f"nothing came for {self._limits.idle_s:g} s"
                else:
                    continue
                flight.connection.abort()

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog = None
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None


def _origin(url: httpx2.URL) -> Origin:
    return Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))


def _message(request: httpx2.Request, *, keep_alive: bool) -> bytes:
    """The request on the wire, in one piece: head and body leave in the same segment where they fit."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() != b"connection"]
    lines.append(b"Connection: keep-alive" if keep_alive else b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.read()
