"""What the connection saw of one request: when its bytes left and when those of the answer came.

Filled by the transport while the request runs; everything that needs thinking (events, tokens) is derived from it
later, by `loadstair.load.timeline`.
"""

from array import array
from operator import sub
from typing import Final

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
BODY_BYTES_BASE: Final = 1024 * 1024
BODY_BYTES_PER_TOKEN: Final = 16 * 1024
"""A chunk is about 200 bytes; a server that sends log probabilities of 20 candidates with each stays below 8 KiB."""


def body_bytes_max(output_tokens: int) -> int:
    """The longest answer to a request for so many tokens that is read: many users share a worker's memory."""
    return min(BODY_BYTES_MAX, BODY_BYTES_BASE + output_tokens * BODY_BYTES_PER_TOKEN)


class Exchange:
    """All times are CLOCK_REALTIME ns; None is "did not get that far".

    `body` holds the answer without its HTTP framing; the parser drops from its front what it has taken, `dropped`
    bytes until now, so that a long stream needs little memory. Arrival i brought the bytes up to `end_offset[i]` of
    the whole answer, was stamped `kernel_ns[i]` by the kernel (0: no stamp) and read at `read_ns[i]`, when the loop
    had not looked at its sockets for `blind_us[i]` µs. An arrival that brought none of the body (headers alone, the
    last chunk's frame) is not listed.
    """

    __slots__ = (
        "blind_us",
        "body",
        "body_bytes_max",
        "connect_ns",
        "content_type",
        "dns_ns",
        "dropped",
        "end_offset",
        "headers_ns",
        "kernel_ns",
        "read_ns",
        "request_id",
        "sent_ns",
        "status",
        "tls_ns",
        "upstream",
    )

    def __init__(self, request_id: str, *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.request_id = request_id
        self.body_bytes_max = body_bytes_max
        self.dns_ns: int | None = None
        """How long its name's addresses were waited for; None where they were known."""
        self.connect_ns: int | None = None
        """How long TCP took to be set up; None on a reused connection."""
        self.tls_ns: int | None = None
        """How long TLS took to be set up, behind `connect_ns`; None on a reused connection, and without TLS."""
        self.sent_ns: int | None = None
        self.headers_ns: int | None = None
        self.status: int | None = None
        self.content_type: str | None = None
        self.upstream: str | None = None
        self.body = bytearray()
        self.dropped = 0
        self.kernel_ns = array("q")
        self.read_ns = array("q")
        self.end_offset = array("I")
        self.blind_us = array("I")

    def note_arrival(self, kernel_ns: int, read_ns: int, blind_us: int) -> None:
        """Of what was just added to `body`."""
        self.kernel_ns.append(kernel_ns)
        self.read_ns.append(read_ns)
        self.blind_us.append(blind_us)
        self.end_offset.append(self.dropped + len(self.body))

    @property
    def body_bytes(self) -> int:
        """That have come until now."""
        return self.dropped + len(self.body)

    def stamped(self) -> bool:
        """Whether every arrival carries the kernel's stamp; True where nothing arrived."""
        return 0 not in self.kernel_ns

    def stamps(self) -> "array[int]":
        """When each arrival came: by the kernel's clock, or by that of the reads if an arrival has no kernel stamp."""
        return self.kernel_ns if self.stamped() else self.read_ns

    def read_lag_ns(self) -> int | None:
        """The longest that a read came after the kernel's stamp; None without kernel stamps."""
        if not self.kernel_ns or not self.stamped():
            return None
        longest: int = max(map(sub, self.read_ns, self.kernel_ns))
        return longest
