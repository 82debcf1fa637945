"""One connection to the server: sends, and receives each arrival together with the kernel's receive stamp.

Two forms with the same methods: `PlainConnection` stamps by the kernel (SO_TIMESTAMPNS, where there is such a
thing), `TlsConnection` has no stamps, because the TLS library does the reading.
Source: Linux, Documentation/networking/timestamping.rst.
"""

import contextlib
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final

import gevent
from gevent import socket, ssl

READ_BYTES: Final = 16 * 1024
# asm-generic/socket.h; Python 3.11 has no name for it. The value differs on the few architectures without that header.
SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("=qq")
_ANCILLARY_BYTES: Final = 64
_SECOND: Final = 1_000_000_000
_SHUT_RDWR: Final = 2
KERNEL_STAMPS: Final = sys.platform == "linux" and sys.maxsize > 2**32

Address = tuple[int, int, int, Any]
"""Family, type, protocol and socket address, as getaddrinfo gives them."""


def resolve(host: str, port: int) -> list[Address]:
    """Raises socket.gaierror, an OSError, when the name is unknown."""
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]


def open_socket(addresses: Sequence[Address], timeout_s: float) -> socket.socket:
    """Connects to the first address that answers. Raises OSError, TimeoutError among them."""
    failure: OSError | None = None
    for family, kind, protocol, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            if KERNEL_STAMPS:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(timeout_s)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError("the name has no address")


def stamp_keeper() -> socket.socket | None:
    """A socket to keep open for as long as stamps are wanted.

    The kernel begins to stamp packets only when the first socket asks, and a little later than that: without one
    that stays open, the first segments on a new connection came unstamped.
    """
    if not KERNEL_STAMPS:
        return None
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return keeper


class PlainConnection:
    """TCP. The socket never blocks by itself: readiness is waited for first, because a read that finds nothing
    costs a wasted system call and an exception for every token."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0.0)
        self._sock = sock
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), 1)
        self._closed = False

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._hub.wait(self._hub.loop.io(self._sock.fileno(), 2))

    def receive(self) -> tuple[bytes, int]:
        """Waits for data; with it the newest kernel stamp in it (0: none). Empty at the end of the stream."""
        while True:
            self._hub.wait(self._readable)
            try:
                data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                continue
            if ancillary:
                stamp = ancillary[0][2]
                if len(stamp) == 16:
                    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                    return data, seconds * _SECOND + nanoseconds
            return data, 0

    def is_quiet(self) -> bool:
        """Whether an idle connection can be used again: open, and with nothing unread on it."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        """Makes a `receive` under way in another greenlet end as if the server had closed."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(_SHUT_RDWR)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._readable.stop()
            self._readable.close()
            self._sock.close()


class TlsConnection:
    """TLS over TCP, without kernel stamps."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Does the handshake, within the socket's timeout. Raises OSError and closes the socket when it fails."""
        try:
            self._sock = context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
        self._sock.settimeout(None)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def receive(self) -> tuple[bytes, int]:
        try:
            return self._sock.recv(READ_BYTES), 0
        except (ValueError, ssl.SSLEOFError):
            # gevent raises ValueError when the socket was shut down meanwhile.
            return b"", 0

    def is_quiet(self) -> bool:
        self._sock.settimeout(0.0)
        try:
            self._sock.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError, TimeoutError):
            self._sock.settimeout(None)
            return True
        except (OSError, ValueError):
            return False
        return False

    def abort(self) -> None:
        # The base class's method: SSLSocket.shutdown drops the TLS state that the reader is still using.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, _SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()


Connection = PlainConnection | TlsConnection
