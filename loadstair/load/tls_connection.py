"""TLS on a connection that knows when the kernel got each byte: the socket's reads are ours, the library decrypts.

An application byte's stamp is that of the read that completed its record; records that came in one read share it.
Source: RFC 8446; Python's documentation of ssl.MemoryBIO.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Final

from loadstair.load.connection import Arrival, PlainConnection

RECORD_BYTES_MAX: Final = 16 * 1024
"""RFC 8446, 5.1: of application data in one record."""
SEAL_BYTES: Final = 4 * RECORD_BYTES_MAX
"""Encrypted at a time: a prompt of 1 MB does not stand in memory twice, nor hold up the loop."""


class TlsConnection:
    def __init__(self, wire: PlainConnection, context: ssl.SSLContext, host: str) -> None:
        """`handshake` must follow."""
        self._wire = wire
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._rest = memoryview(b"")
        self._ended = False
        """The server has said that nothing more will come."""
        self._failure: OSError | None = None

    def handshake(self) -> None:
        """Raises OSError, ssl.SSLCertVerificationError among them."""
        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                self._send_sealed()
            except ssl.SSLError:
                self._send_farewell()
                raise
            else:
                self._send_sealed()
                return
            sealed, _ = self._wire.receive()
            if not sealed:
                raise ConnectionResetError("the server closed during the handshake")
            self._incoming.write(sealed)

    def _send_sealed(self) -> None:
        self._wire.offer(self._outgoing.read())
        while not self._wire.flush():
            self._wire.wait_for_room()

    def _send_farewell(self) -> None:
        """An alert or close_notify, if the socket takes it at once."""
        with contextlib.suppress(OSError):
            self._wire.offer(self._outgoing.read())
            self._wire.flush()

    def offer(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self._seal()

    def _seal(self) -> None:
        written = self._session.write(self._rest[:SEAL_BYTES])
        self._rest = self._rest[written:]
        self._wire.offer(self._outgoing.read())

    def flush(self) -> bool:
        while self._wire.flush():
            if not self._rest:
                return True
            self._seal()
        return False

    def wait_for_room(self) -> bool:
        return self._wire.wait_for_room()

    def receive(self) -> Arrival:
        while True:
            arrival = self._left_over() or self._opened(self._wire.receive())
            if arrival is not None:
                return arrival

    def receive_each(self, take: Callable[[bytes, int], bool]) -> None:
        def take_opened(ciphertext: bytes, stamp_ns: int) -> bool:
            arrival = self._opened((ciphertext, stamp_ns))
            while arrival is not None:
                if take(*arrival):
                    return True
                arrival = self._left_over()
            return False

        left = self._left_over()
        if left is None or not take(*left):
            self._wire.receive_each(take_opened)

    def receive_now(self) -> Arrival | None:
        left = self._left_over()
        if left is not None:
            return left
        sealed = self._wire.receive_now()
        return None if sealed is None else self._opened(sealed)

    def _left_over(self) -> Arrival | None:
        """What stood behind the last data of an earlier read."""
        if self._failure is not None:
            raise self._failure
        return (b"", 0) if self._ended else None

    def _opened(self, sealed: Arrival) -> Arrival | None:
        """None: no application data is complete by this (part of a record, a session ticket)."""
        ciphertext, stamp_ns = sealed
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()
        pieces = []
        try:
            while piece := self._session.read(RECORD_BYTES_MAX):
                pieces.append(piece)
                if not self._incoming.pending and not self._session.pending():
                    break
            else:
                self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            # Anyone on the way can end a TCP stream: this is no end of a body that has no length.
            self._failure = ConnectionResetError("closed without TLS's close_notify")
        except ssl.SSLError as error:
            self._failure = ConnectionResetError(f"TLS: {(error.reason or 'failed').replace('_', ' ').lower()}")
        if pieces:
            return b"".join(pieces), stamp_ns
        return self._left_over()

    def is_quiet(self) -> bool:
        """Session tickets may lie unread on a connection that is fit for use."""
        try:
            if not self._wire.is_quiet() and self.receive_now() is not None:
                return False
            return self._left_over() is None and self._wire.is_quiet()
        except OSError:
            return False

    def abort(self) -> None:
        self._wire.abort()

    def close(self) -> None:
        # It raises because the server's own has not come, which is not waited for.
        with contextlib.suppress(ssl.SSLError):
            self._session.unwrap()
        self._send_farewell()
        self._wire.close()
