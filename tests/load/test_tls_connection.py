"""A server's records, cut in any way on their way to the client: which read gave each byte its stamp."""

import ssl
from collections import deque
from itertools import accumulate, pairwise
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.load.connection import Arrival, PlainConnection
from loadstair.load.tls_connection import TlsConnection
from loadstair.tls import client_context


class ServerWire:
    """What the client's side of a TCP connection would be, with a real TLS server behind it."""

    def __init__(self, certificate: Path, version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.arrivals: deque[Arrival] = deque()
        self._shaken = False

    def sealed(self) -> bytes:
        return self._outgoing.read()

    def offer(self, data: bytes) -> None:
        self._incoming.write(data)

    def flush(self) -> bool:
        if not self._shaken:
            try:
                self.server.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                pass
            self.arrivals.append((self.sealed(), 0))
        return True

    def receive(self) -> Arrival:
        return self.arrivals.popleft()

    def close(self) -> None:
        pass


def connected(certificate: Path, version: ssl.TLSVersion) -> tuple[ServerWire, TlsConnection]:
    wire = ServerWire(certificate, version)
    context = client_context(ca=str(certificate), verify=True)
    connection = TlsConnection(cast(PlainConnection, wire), context, "localhost")
    connection.handshake()
    # What stands behind the handshake now are session tickets, unless the version has none there.
    wire.arrivals = deque(arrival for arrival in wire.arrivals if arrival[0])
    return wire, connection


@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=5),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
)
def test_a_record_has_the_stamp_of_the_read_that_completed_it(
    certificate: Path, bodies: list[bytes], cuts: list[float], version: ssl.TLSVersion
) -> None:
    wire, connection = connected(certificate, version)
    records = []
    for body in bodies:
        wire.server.write(body)
        records.append(wire.sealed())
    stream = b"".join(records)
    edges = sorted({0, len(stream), *(int(cut * len(stream)) for cut in cuts)})
    wire.arrivals += [(stream[start:end], end) for start, end in pairwise(edges)]  # a read's stamp: where it ends
    expected: dict[int, bytes] = {}
    for body, record_end in zip(bodies, accumulate(map(len, records)), strict=True):
        stamp = next(edge for edge in edges if edge >= record_end)
        expected[stamp] = expected.get(stamp, b"") + body
    assert [connection.receive() for _ in expected] == [(body, stamp) for stamp, body in expected.items()]


@pytest.mark.parametrize("polite", [True, False])
def test_only_a_close_notify_is_an_end(certificate: Path, polite: bool) -> None:
    wire, connection = connected(certificate, ssl.TLSVersion.TLSv1_3)
    wire.server.write(b"last")
    if polite:
        with pytest.raises(ssl.SSLWantReadError):
            wire.server.unwrap()
    wire.arrivals += [(wire.sealed(), 7), (b"", 0)]
    assert connection.receive() == (b"last", 7)
    if polite:
        assert connection.receive()[0] == b""
    else:
        with pytest.raises(ConnectionResetError, match="without TLS's close_notify"):
            connection.receive()


def test_a_record_that_was_changed_on_the_way_breaks_the_connection(certificate: Path) -> None:
    wire, connection = connected(certificate, ssl.TLSVersion.TLSv1_3)
    wire.server.write(b"token")
    sealed = bytearray(wire.sealed())
    sealed[-1] ^= 1
    wire.arrivals.append((bytes(sealed), 7))
    with pytest.raises(ConnectionResetError, match="TLS: "):
        connection.receive()


def test_a_large_message_is_sealed_in_pieces_and_arrives_whole(certificate: Path) -> None:
    wire, connection = connected(certificate, ssl.TLSVersion.TLSv1_3)
    message = bytes(range(256)) * 4000  # 1 MB
    connection.offer(message)
    assert connection.flush()
    got = b""
    while len(got) < len(message):
        got += wire.server.read(len(message))
    assert got == message
