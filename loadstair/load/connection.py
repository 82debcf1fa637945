"""One TCP connection to the server: sends, and receives each arrival together with the kernel's receive stamp.

`TlsConnection` (`loadstair.load.tls_connection`) has the same methods and works through one of these.
Source of the stamps: Linux, Documentation/networking/timestamping.rst.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

import gevent
import gevent.socket
from gevent.hub import Waiter
from gevent.monkey import get_original

READ_BYTES: Final = 64 * 1024
"""A token costs the same with 16 KiB, a chunk of 100 KB costs 80 % more CPU."""
# asm-generic/socket.h; Python 3.11 has no name for it. The value differs on the few architectures without that header.
SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("=qq")
_ANCILLARY_BYTES: Final = 64
_SECOND: Final = 1_000_000_000
_READ: Final = 1
_READ_OR_WRITE: Final = 3
_NOTHING: Final = memoryview(b"")
KERNEL_STAMPS: Final = sys.platform == "linux" and sys.maxsize > 2**32

Arrival = tuple[bytes, int]
"""What one read brought, and the newest kernel stamp in it (0: none). Empty bytes: the end of the stream."""


def stamp_keeper() -> gevent.socket.socket | None:
    """A socket to keep open for as long as stamps are wanted.

    The kernel begins to stamp packets only when the first socket asks, and a little later than that: without one
    that stays open, the first segments on a new connection came unstamped.
    """
    if not KERNEL_STAMPS:
        return None
    keeper = gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return keeper


class PlainConnection:
    """TCP. The socket never blocks by itself: readiness is waited for first, because a read that finds nothing
    costs a wasted system call and an exception for every token."""

    def __init__(self, sock: gevent.socket.socket) -> None:
        """Takes the connected socket over."""
        # The plain socket class under gevent's: that one's own methods cost a call and wait on their own.
        self._sock: socket.socket = get_original("socket", "socket")(fileno=sock.detach())
        self._sock.settimeout(0.0)
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(self._sock.fileno(), _READ)
        self._rest = _NOTHING
        self._closed = False

    def offer(self, data: bytes) -> None:
        """What is to be sent next, by `flush`."""
        self._rest = memoryview(data)

    def flush(self) -> bool:
        """Sends as much as the socket takes at once; whether that was all."""
        rest = self._rest
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                self._rest = rest
                return False
        self._rest = _NOTHING
        return True

    def wait_for_room(self) -> bool:
        """Waits until the socket takes more, or something came; whether something came (the end, perhaps)."""
        watcher = self._hub.loop.io(self._sock.fileno(), _READ_OR_WRITE)
        try:
            self._hub.wait(watcher)
        finally:
            watcher.stop()
            watcher.close()
        return not self.is_quiet()

    def receive(self) -> Arrival:
        """Waits for data."""
        while True:
            self._hub.wait(self._readable)
            arrival = self.receive_now()
            if arrival is not None:
                return arrival

    def receive_each(self, take: Callable[[bytes, int], bool]) -> None:
        """Gives `take` each arrival as it comes, until it returns True; what it raises is raised here.

        `take` runs in the event loop and must not wait: waking the waiting greenlet for each token costs a third more.
        """
        waiter: Waiter[None] = Waiter()

        def read() -> None:
            try:
                arrival = self.receive_now()
                if arrival is None or not take(*arrival):
                    return
            except Exception as error:  # noqa: BLE001  raised where it belongs: in the greenlet that waits
                waiter.throw(error)
            else:
                waiter.switch(None)

        self._readable.start(read)
        try:
            waiter.get()
        finally:
            self._readable.stop()

    def receive_now(self) -> Arrival | None:
        """None: nothing is there."""
        try:
            data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES)
        except BlockingIOError:
            return None
        if ancillary:
            stamp = ancillary[0][2]
            if len(stamp) == _TIMESPEC.size:
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
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._readable.stop()
            self._readable.close()
            self._sock.close()
