"""Compressed bodies, decoded as they come. We ask for none (`Accept-Encoding: identity`); a proxy may not care."""

import zlib
from typing import Final, Protocol

_GZIP: Final = zlib.MAX_WBITS | 16
_RAW: Final = -zlib.MAX_WBITS
_DEFLATE: Final = 8


class InflateError(Exception):
    """The bytes are not what Content-Encoding says."""


class Decoder(Protocol):
    def decode(self, data: bytes, length_max: int) -> bytes:
        """At most `length_max` bytes; whatever would be more is lost. Raises InflateError."""

    def complete(self) -> bool:
        """Whether the body may end here."""


class Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def decode(self, data: bytes, length_max: int) -> bytes:
        """One member may follow another (RFC 1952, 2.2)."""
        decoded = b""
        try:
            while data and len(decoded) < length_max:
                if self._member.eof:
                    self._member = zlib.decompressobj(_GZIP)
                self._begun = True
                decoded += self._member.decompress(data, length_max - len(decoded))
                data = self._member.unused_data
        except zlib.error as error:
            raise InflateError(str(error)) from error
        return decoded

    def complete(self) -> bool:
        return self._member.eof or not self._begun


class Deflate:
    """With zlib's frame, as RFC 9110 (8.4.1.2) wants it, or without, as some servers send it."""

    def __init__(self) -> None:
        self._start: bytes | None = b""
        """The first bytes, until they tell whether there is a frame."""
        self._stream = zlib.decompressobj()

    def decode(self, data: bytes, length_max: int) -> bytes:
        if self._start is not None:
            self._start += data
            if len(self._start) < 2:
                return b""
            data, self._start = self._start, None
            framed = data[0] & 0x0F == _DEFLATE and int.from_bytes(data[:2], "big") % 31 == 0
            if not framed:
                self._stream = zlib.decompressobj(_RAW)
        try:
            return self._stream.decompress(data, length_max)
        except zlib.error as error:
            raise InflateError(str(error)) from error

    def complete(self) -> bool:
        return self._stream.eof or self._start == b""


class Unreadable:
    """Of an encoding that we cannot read: nothing comes of it, least of all something wrong."""

    def decode(self, data: bytes, length_max: int) -> bytes:  # noqa: ARG002  the protocol's
        return b""

    def complete(self) -> bool:
        return True


def decoder(content_encoding: str | None) -> Decoder | None:
    """None where there is nothing to decode."""
    match (content_encoding or "identity").strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return Gzip()
        case "deflate":
            return Deflate()
        case _:
            return Unreadable()
