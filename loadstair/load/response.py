"""The answer's HTTP framing, taken off by llhttp (in C): the head kept, the body put into the exchange's buffer."""

from geventhttpclient.response import HTTPParseError, HTTPResponse

from loadstair.inflate import Decoder, InflateError, Unreadable, decoder
from loadstair.load.exchange import Exchange

NO_BODY = 204, 304


class FramingError(Exception):
    """Not HTTP, or not in the encoding that the head says."""


class _SurplusError(Exception):
    """Bytes behind the end of the final response, which nobody asked for."""


class ResponseParser(HTTPResponse):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__(method="POST")
        self.final_status: int | None = None
        """Of the response that the head is complete of; interim ones (1xx) don't count."""
        # Past HTTPResponse.feed, which adds what only HEAD needs.
        self._parse = super(HTTPResponse, self).feed
        self._exchange = exchange
        self._body = exchange.body
        self._decoder: Decoder | None = None
        self._surplus = False

    def take(self, data: bytes) -> None:
        """Empty data is the end of the stream: it completes a body without a length. Raises FramingError."""
        try:
            self._parse(data)
        except _SurplusError:
            self._surplus = True
        except HTTPParseError as error:
            if not self.complete():
                raise FramingError(f"not HTTP: {error.args[0]}") from error
            self._surplus = True
        except InflateError as error:
            raise FramingError(f"not {self.header('content-encoding')}: {error}") from error

    def complete(self) -> bool:
        return self.final_status is not None and self.message_complete

    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return not self._surplus and not self.should_close()

    def header(self, name: str) -> str | None:
        value = self.get(name)
        return ", ".join(value) if isinstance(value, list) else value

    def decoded_headers(self) -> list[tuple[bytes, bytes]]:
        """Those that are true of the body as it is handed over, as they came: they need not be ASCII."""
        return [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in self.items()
            if self._decoder is None or name.lower() not in ("content-encoding", "content-length")
        ]

    def encoding_mistake(self) -> str | None:
        """What keeps the body from being read, as far as it has come."""
        encoding = self.header("content-encoding")
        if isinstance(self._decoder, Unreadable):
            return f"Content-Encoding: {encoding}: none was asked for; only gzip and deflate can be read"
        if self._decoder is not None and self.complete() and not self._decoder.complete():
            return f"Content-Encoding: {encoding}: the compressed body ends too early"
        return None

    def _on_message_begin(self) -> None:
        if self.complete():
            raise _SurplusError
        super()._on_message_begin()

    def _on_headers_complete(self) -> int | bool | None:
        skip_body = super()._on_headers_complete()
        status = self.get_code()
        if status >= 200:
            self.final_status = status
            if status not in NO_BODY:
                self._decoder = decoder(self.header("content-encoding"))
            if self._decoder is None:
                # Called for each chunk: straight from C to C.
                self._on_body = self._body.extend  # type: ignore[method-assign,assignment]
        return skip_body

    def _on_header_field(self, string: str) -> None:
        if self.final_status is None:  # else it is a trailer's
            super()._on_header_field(string)

    def _on_header_value(self, string: str) -> None:
        if self.final_status is None:
            super()._on_header_value(string)

    def _on_body(self, buf: bytearray) -> None:
        if self._decoder is None:  # of an interim response
            return
        exchange = self._exchange
        # One more than may come: the transport tells that it was too much.
        room = exchange.body_bytes_max - exchange.body_bytes + 1
        if room > 0:
            self._body += self._decoder.decode(bytes(buf), room)
