"""What the connection saw of one request: when its bytes left and when those of the answer came.

Filled by the transport while the request runs; everything that needs thinking (events, tokens) is derived from it
later, by `loadstair.load.timeline`.
"""

from array import array
from typing import Final

from loadstair.units import NS_PER_US

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
BODY_BYTES_BASE: Final = 1024 * 1024
BODY_BYTES_PER_TOKEN: Final = 16 * 1024
"""A chunk is about 200 bytes; a server that sends log probabilities of 20 candidates with each stays below 8 KiB."""
WAITED_US_MAX: Final = 2**32 - 1


def body_bytes_max(output_tokens: int) -> int:
    """The longest answer to a request for so many tokens that is read: many users share a worker's memory."""
    return min(BODY_BYTES_MAX, BODY_BYTES_BASE + output_tokens * BODY_BYTES_PER_TOKEN)


class Exchange:
    """All times are CLOCK_REALTIME ns; None is "did not get that far".

    `body` holds the answer without its HTTP framing; the parser drops from its front what it has taken, `dropped`
    bytes until now, so that a long stream needs little memory. Arrival i brought the bytes up to `end_offset[i]` of
    the whole answer and came at `stamps_ns[i]`, by the kernel's stamp; where it has none, by the time of the read.
    Something in it may have waited to be read for as long as `waited_us[i]`. An arrival that brought none of the body
    (headers alone, the last chunk's frame) is not listed.
    """

    __slots__ = (
        "body",
        "body_bytes_max",
        "connect_ns",
        "content_type",
        "dns_ns",
        "dropped",
        "end_offset",
        "headers_ns",
        "kernel_stamped",
        "lag_ns_max",
        "request_id",
        "sent_ns",
        "stamps_ns",
        "status",
        "tls_ns",
        "upstream",
        "waited_us",
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
        self.stamps_ns = array("q")
        self.end_offset = array("I")
        self.waited_us = array("I")
        self.kernel_stamped = True
        """Every arrival until now has the kernel's stamp."""
        self.lag_ns_max = 0
        """The longest that a read came after the kernel's stamp."""

    def note_arrival(self, kernel_ns: int, read_ns: int, blind_ns: int) -> None:
        """Of what was just added to `body`. `kernel_ns` 0: no stamp. `blind_ns`: the loop had not looked so long."""
        stamp_ns, waited_ns = kernel_ns, blind_ns
        if kernel_ns:
            lag_ns = read_ns - kernel_ns
            if lag_ns > waited_ns:
                waited_ns = lag_ns
            if lag_ns > self.lag_ns_max:
                self.lag_ns_max = lag_ns
        else:
            stamp_ns, self.kernel_stamped = read_ns, False
        self.stamps_ns.append(stamp_ns)
        self.waited_us.append(min(waited_ns // NS_PER_US, WAITED_US_MAX))
        self.end_offset.append(self.dropped + len(self.body))

    @property
    def body_bytes(self) -> int:
        """That have come until now."""
        return self.dropped + len(self.body)

    def read_lag_ns(self) -> int | None:
        """The longest that a read came after the kernel's stamp; None without kernel stamps."""
        return self.lag_ns_max if self.stamps_ns and self.kernel_stamped else None
