"""What the connection saw of one request: when its bytes left and when those of the answer came.

Filled by the transport while the request runs; everything that needs thinking (events, tokens) is derived from it
later, by `loadstair.load.timeline`.
"""

from array import array
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

    `body` holds the answer without its HTTP framing. Arrival i brought the bytes up to `end_offset[i]` of it, was
    stamped `kernel_ns[i]` by the kernel (0: no stamp) and read at `read_ns[i]`. An arrival that brought none of the
    body (headers alone, the last chunk's frame) is not listed.
    """

    __slots__ = (
        "body",
        "body_bytes_max",
        "connect_ns",
        "content_type",
        "end_offset",
        "headers_ns",
        "kernel_ns",
        "read_ns",
        "request_id",
        "sent_ns",
        "status",
        "upstream",
    )

    def __init__(self, request_id: str, *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.request_id = request_id
        self.body_bytes_max = body_bytes_max
        self.connect_ns: int | None = None
        """Duration of the name look-up and the connection's set-up; None on a reused connection."""
        self.sent_ns: int | None = None
        self.headers_ns: int | None = None
        self.status: int | None = None
        self.content_type: str | None = None
        self.upstream: str | None = None
        self.body = bytearray()
        self.kernel_ns = array("q")
        self.read_ns = array("q")
        self.end_offset = array("q")

    def stamped(self) -> bool:
        """Whether every arrival carries the kernel's stamp; True where nothing arrived."""
        return 0 not in self.kernel_ns

    def read_lag_ns(self) -> int | None:
        """The longest that a read came after the kernel's stamp; None without kernel stamps."""
        if not self.kernel_ns or not self.stamped():
            return None
        return max(read - kernel for read, kernel in zip(self.read_ns, self.kernel_ns, strict=True))
