"""The transport under the openai SDK: HTTP/1.1 over gevent sockets that know when the kernel got each byte.

The read path does nothing but HTTP framing (llhttp, in C): a worker that is busy elsewhere reads late, and a late
read can merge two arrivals into one. Time limits are kept by one watchdog greenlet instead of a timer for each read.
"""

import contextlib
import ssl
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import gevent
import httpx2

from loadstair.clock import monotonic_ns, now_ns
from loadstair.load.connection import stamp_keeper
from loadstair.load.dial import Connection, Dialer, DialError, DialTimeoutError, Origin
from loadstair.load.exchange import Exchange
from loadstair.load.loopwatch import LoopWatch
from loadstair.load.response import FramingError, ResponseParser
from loadstair.plain import one_line
from loadstair.units import NS_PER_S, ns_from_s

HEAD_BYTES_MAX: Final = 256 * 1024
WATCH_S: Final = 0.25
STALE_NS_MAX: Final = NS_PER_S
"""A server that had given a reused connection up lets us know within a round trip. One that ends it later had the
request, and has failed it: to send that again would hide the failure."""


class TimeLimits(NamedTuple):
    connect_s: float
    """For the name's look-up, TCP and TLS together."""
    first_byte_s: float | None
    """From the send to the first byte of the response's body: many servers send the head at once, and the body when
    there is a token. None: as long as the whole request may take."""
    idle_s: float
    """The longest gap between two reads of one response."""
    request_s: float
    """From the send to the last byte."""


class _SilentCloseError(Exception):
    """A reused connection ended before any byte of the answer: the server had already given it up."""


class Flight:
    """One request under way on one connection."""

    def __init__(
        self, connection: Connection, exchange: Exchange, request: httpx2.Request, watch: LoopWatch, *, reused: bool
    ) -> None:
        self.connection = connection
        self.exchange = exchange
        self.parser = ResponseParser(exchange)
        self.timed_out: str | None = None
        self.started_ns = monotonic_ns()
        self.arrivals_seen = 0
        self.arrival_seen_ns = self.started_ns
        self._request = request
        self._watch = watch
        self._reused = reused
        self._head_bytes = 0
        self._sent = False

    @property
    def answered(self) -> bool:
        """Whether the first byte of a response has come."""
        return self._head_bytes > 0

    @property
    def reusable(self) -> bool:
        return self._sent and self.timed_out is None and self.parser.reusable()

    def send(self, message: bytes) -> None:
        """Ends early if the whole head of the answer comes before the server has taken all of a long request."""
        connection = self.connection
        connection.offer(message)
        # Before the call: afterwards the answer could already be there.
        self.exchange.sent_ns = now_ns()
        try:
            while not (self._sent or self._head_complete()):
                self._sent = connection.flush()
                if not self._sent and connection.wait_for_room():
                    arrival = connection.receive_now()
                    if arrival is not None:
                        self._read_head_part(*arrival)
        except OSError as error:
            # A server may refuse a long request and close: its answer is there to be read.
            if self.timed_out is not None:
                raise self._broken(error) from error

    def read_head(self) -> None:
        """Reads until the headers of a final response are complete; some of the body may have come along."""
        while not self._head_complete():
            self._read_head_part(*self._receive())

    def _read_head_part(self, data: bytes, kernel_ns: int) -> None:
        self._head_bytes += len(data)
        if not data and not self.parser.headers_complete:
            raise self._broken(None)
        try:
            self._feed(data, kernel_ns)
        finally:
            # Also when what came right behind the head was bad.
            if self._head_complete():
                self._note_head(kernel_ns or now_ns())
        if self._head_complete():
            if self.exchange.status == 200:
                self._check_encoding()
        elif not data:
            raise self._broken(None)  # the end after an interim response (1xx)
        elif self._head_bytes > HEAD_BYTES_MAX:
            raise httpx2.RemoteProtocolError(f"headers longer than {HEAD_BYTES_MAX} bytes", request=self._request)

    def _head_complete(self) -> bool:
        return self.parser.final_status is not None

    def _note_head(self, stamp_ns: int) -> None:
        parser, exchange = self.parser, self.exchange
        exchange.headers_ns = stamp_ns
        exchange.status = parser.final_status
        exchange.content_type = parser.header("content-type")
        upstream = parser.header("x-upstream-addr")
        exchange.upstream = None if upstream is None else one_line(upstream)

    def read_body(self) -> None:
        """Reads to the end of the body."""
        if not self.parser.message_complete:
            try:
                self.connection.receive_each(self._feed)
            except OSError as error:
                raise self._broken(error) from error
        if self.exchange.status == 200:
            self._check_encoding()

    def _check_encoding(self) -> None:
        mistake = self.parser.encoding_mistake()
        if mistake is not None:
            raise httpx2.DecodingError(mistake, request=self._request)

    def _receive(self) -> tuple[bytes, int]:
        try:
            return self.connection.receive()
        except OSError as error:
            raise self._broken(error) from error

    def _feed(self, data: bytes, kernel_ns: int) -> bool:
        """Takes one arrival; whether it completes the message. The hot path of a load test: each token comes here.

        Empty data is the end of the stream: it completes a body without a length, and breaks any other.
        """
        read_ns = now_ns()
        exchange, parser = self.exchange, self.parser
        body = exchange.body
        length = len(body)
        try:
            parser.take(data)
        except FramingError as error:
            if not data:
                raise self._broken(None) from error
            raise httpx2.RemoteProtocolError(str(error), request=self._request) from error
        finally:
            # Also when what came behind it was bad: every byte of the body has its stamp.
            if len(body) != length:
                exchange.note_arrival(kernel_ns, read_ns, self._watch.blind_ns(read_ns))
        if exchange.dropped + len(body) > exchange.body_bytes_max:
            message = f"body longer than {exchange.body_bytes_max} bytes, more than what was asked for can need"
            raise httpx2.RemoteProtocolError(message, request=self._request)
        complete: bool = parser.message_complete
        if self.timed_out is not None or not (data or complete):
            raise self._broken(None)
        return complete

    def _broken(self, error: OSError | None) -> Exception:
        if self.timed_out is not None:
            return httpx2.ReadTimeout(self.timed_out, request=self._request)
        if self._reused and not self.answered and monotonic_ns() - self.started_ns < STALE_NS_MAX:
            return _SilentCloseError()
        reason = "closed by the server" if error is None else str(error)
        where = "inside the body" if self._head_complete() else "before the response"
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
        """`tls` is needed for https."""
        self._limits = limits
        self._keep_alive = keep_alive
        self._dialer = Dialer(limit_s=limits.connect_s, tls=tls)
        self._keeper = stamp_keeper()
        self._watch = LoopWatch()
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
            exchange.sent_ns = None  # to nobody
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
        flight = Flight(connection, exchange, request, self._watch, reused=reused)
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
            exchange.status or 0, headers=flight.parser.decoded_headers(), stream=body, request=request
        )

    def land(self, flight: Flight, origin: Origin) -> None:
        """Keeps the connection for the next request if it is fit for one. Can be called twice."""
        if flight not in self._flights:
            return
        self._flights.discard(flight)
        if self._keep_alive and flight.reusable:
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
        try:
            return self._dialer.dial(origin, exchange)
        except DialTimeoutError as error:
            raise httpx2.ConnectTimeout(str(error), request=request) from error
        except DialError as error:
            raise httpx2.ConnectError(str(error), request=request) from error

    def _start_watchdog(self) -> None:
        if self._watchdog is None:
            self._watchdog = gevent.spawn(self._keep_limits)

    def _keep_limits(self) -> None:
        while True:
            gevent.sleep(WATCH_S)
            now = monotonic_ns()
            for flight in list(self._flights):
                arrivals = len(flight.exchange.stamps_ns)
                if arrivals != flight.arrivals_seen:
                    flight.arrivals_seen, flight.arrival_seen_ns = arrivals, now
                flight.timed_out = self._overdue(flight, now)
                if flight.timed_out is not None:
                    flight.connection.abort()

    def _overdue(self, flight: Flight, now: int) -> str | None:
        """Which limit the request has broken, if any."""
        limits = self._limits
        under_way_ns = now - flight.started_ns
        if under_way_ns > ns_from_s(limits.request_s):
            return f"not finished within {limits.request_s:g} s"
        if flight.arrivals_seen:
            if now - flight.arrival_seen_ns > ns_from_s(limits.idle_s):
                return f"nothing came for {limits.idle_s:g} s"
        elif limits.first_byte_s is not None and under_way_ns > ns_from_s(limits.first_byte_s):
            return f"no first byte of an answer within {limits.first_byte_s:g} s"
        return None

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog = None
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._dialer.close()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._watch.close()


def _origin(url: httpx2.URL) -> Origin:
    return Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))


def _message(request: httpx2.Request, *, keep_alive: bool) -> bytes:
    """The request on the wire, in one piece: head and body leave in the same segment where they fit."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() != b"connection"]
    lines.append(b"Connection: keep-alive" if keep_alive else b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.read()
