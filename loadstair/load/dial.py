"""Sets connections up: the name's addresses, TCP, TLS; each timed by itself, all of it within one limit."""

import ipaddress
import itertools
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import gevent
import gevent.socket

from loadstair.clock import Deadline, monotonic_ns
from loadstair.load.connection import KERNEL_STAMPS, SO_TIMESTAMPNS, PlainConnection
from loadstair.load.exchange import Exchange
from loadstair.load.tls_connection import TlsConnection
from loadstair.tls import failure_line

Connection = PlainConnection | TlsConnection
Address = tuple[int, int, int, Any]
"""Family, type, protocol and socket address, as getaddrinfo gives them."""
LookedUp = tuple[list[Address], str | None]
"""The addresses, or why there are none: it is no exception, because gevent prints those that end a greenlet."""
ADDRESS_S_MIN: Final = 0.05


class Origin(NamedTuple):
    scheme: str
    host: str
    """Without brackets."""
    port: int


class DialError(Exception):
    """No connection came about. One line that names the server and why."""


class DialTimeoutError(DialError):
    pass


class Dialer:
    """A name is looked up once. Connections take turns at its addresses: behind one name may stand several servers,
    and all of the load must not go to the first. The others are tried where one does not answer."""

    def __init__(
        self, *, limit_s: float, tls: ssl.SSLContext | None, look_up: Callable[[Origin], LookedUp] | None = None
    ) -> None:
        """`tls` is needed for https; `look_up` is the system's resolver unless given."""
        self._limit_s = limit_s
        self._tls = tls
        self._look_up = look_up or _look_up
        self._lookups: dict[Origin, gevent.Greenlet[..., LookedUp]] = {}
        self._turns = itertools.count()
        self._families: dict[Origin, int] = {}
        """In which a connection came about: where a host has addresses of both, often only one is served."""

    def dial(self, origin: Origin, exchange: Exchange) -> Connection:
        """Fills the exchange's set-up times, as far as it gets. Raises DialError."""
        where = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        stage = "the name was not resolved"
        deadline = Deadline.after_s(self._limit_s)
        limit = gevent.Timeout.start_new(self._limit_s)
        try:
            addresses = self._addresses(origin, exchange)
            stage = "no connection"
            began_ns = monotonic_ns()
            sock = open_socket(self._in_turn(origin, addresses), deadline)
            exchange.connect_ns = monotonic_ns() - began_ns
            self._families[origin] = sock.family
            stage = "no TLS handshake"
            wire = PlainConnection(sock)
            return self._secured(wire, origin.host, exchange) if origin.scheme == "https" else wire
        except (gevent.Timeout, TimeoutError) as error:
            if isinstance(error, gevent.Timeout) and error is not limit:
                raise
            raise DialTimeoutError(f"{where}: {stage} within {self._limit_s:g} s") from error
        except OSError as error:
            raise DialError(f"{where}: {error.strerror or error}") from error
        finally:
            limit.close()

    def _addresses(self, origin: Origin, exchange: Exchange) -> Sequence[Address]:
        literal = _literal(origin)
        if literal is not None:
            return [literal]
        lookup = self._lookups.get(origin)
        if lookup is None:
            lookup = self._lookups[origin] = gevent.spawn(self._look_up, origin)
        if not lookup.ready():
            began_ns = monotonic_ns()
            lookup.join()
            exchange.dns_ns = monotonic_ns() - began_ns
        addresses, mistake = lookup.value or ([], "the look-up was given up")
        if mistake is not None:
            if self._lookups.get(origin) is lookup:
                del self._lookups[origin]
            raise DialError(f"{origin.host}: the name cannot be resolved: {mistake}")
        return addresses

    def _in_turn(self, origin: Origin, addresses: Sequence[Address]) -> list[Address]:
        """The resolver's order counts until a connection has come about."""
        family = self._families.get(origin)
        served = [address for address in addresses if address[0] == family]
        others = [address for address in addresses if address[0] != family]
        turn = next(self._turns) % max(1, len(served))
        return [*served[turn:], *served[:turn], *others]

    def _secured(self, wire: PlainConnection, host: str, exchange: Exchange) -> TlsConnection:
        """Closes the connection if that fails."""
        began_ns = monotonic_ns()
        try:
            if self._tls is None:
                raise OSError("https without a TLS context")
            connection = TlsConnection(wire, self._tls, host)
            connection.handshake()
        except OSError as error:
            wire.close()
            raise OSError(failure_line(error)) from error
        except BaseException:
            wire.close()
            raise
        exchange.tls_ns = monotonic_ns() - began_ns
        return connection

    def close(self) -> None:
        gevent.killall(list(self._lookups.values()))
        self._lookups.clear()


def _literal(origin: Origin) -> Address | None:
    """The address that the host is, if it is one. One with an IPv6 zone is left to the look-up."""
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, socket.SOCK_STREAM, 0, (origin.host, origin.port)
    if address.scope_id is not None:
        return None
    return socket.AF_INET6, socket.SOCK_STREAM, 0, (origin.host, origin.port, 0, 0)


def _look_up(origin: Origin) -> LookedUp:
    try:
        found = gevent.socket.getaddrinfo(origin.host, origin.port, 0, socket.SOCK_STREAM)
    except UnicodeError:
        return [], "it is no name"
    except OSError as error:
        return [], error.strerror or str(error)
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found], None


def open_socket(addresses: Sequence[Address], deadline: Deadline) -> gevent.socket.socket:
    """Connects to the first address that answers; one that keeps silent leaves the others their share of the time.

    Raises OSError, TimeoutError among them.
    """
    failure: OSError | None = None
    for tried, (family, kind, protocol, address) in enumerate(addresses):
        sock: gevent.socket.socket | None = None
        try:
            # It fails where the system has no such family: then there may be another address.
            sock = gevent.socket.socket(family, kind, protocol)
            if KERNEL_STAMPS:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(ADDRESS_S_MIN, deadline.left_s() / (len(addresses) - tried)))
            sock.connect(address)
            return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    raise failure or OSError("the name has no address")
