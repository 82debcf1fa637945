"""Plain HTTP for the orchestrator: small, bounded, with a timeout, never through a proxy.

The load itself does not go through here: it has a transport of its own (`loadstair.load.transport`).
"""

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadstair.clock import Deadline
from loadstair.inflate import InflateError, Unreadable, decoder
from loadstair.plain import one_line
from loadstair.tls import failure_line

BODY_BYTES_MAX = 64 * 1024 * 1024
PIECE_BYTES = 64 * 1024


class FetchError(Exception):
    """No usable answer came. `str()` names the URL and why; `refused` tells a closed port from the rest."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """As sent, with names in lower case."""
    body: bytes
    """Decoded, where the server compressed it."""

    def json(self) -> Any:
        """Raises ValueError if the body is not JSON."""
        return json.loads(self.body)

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class _RedirectsWithinOrigin(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if req.get_method() != "GET" or (before.scheme, before.netloc) != (after.scheme, after.netloc):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_NO_PROXY = urllib.request.ProxyHandler({})


def fetch(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> Answer:
    """GET, or POST where a body is given. Any HTTP status is an answer.

    Redirects are followed for GET and within one origin only, else they are the answer: headers may hold a key.

    Raises FetchError when nobody answered, in time or in HTTP, or the answer is longer than `body_bytes_max`.
    `timeout_s` bounds each wait and, up to one more wait, the whole body: a server that trickles cannot hold us.
    """
    deadline = Deadline.after_s(timeout_s)
    handlers: list[urllib.request.BaseHandler] = [_NO_PROXY, _RedirectsWithinOrigin()]
    if tls is not None:
        handlers.append(urllib.request.HTTPSHandler(context=tls))
    opener = urllib.request.build_opener(*handlers)
    try:
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}))  # noqa: S310  http(s) is checked in the plan
        with opener.open(request, timeout=timeout_s) as response:
            return _answer(url, response, response.status, body_bytes_max, deadline)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(url, error, error.code, body_bytes_max, deadline)
    except urllib.error.URLError as error:
        refused = isinstance(error.reason, ConnectionRefusedError)
        raise FetchError(f"{url}: {_reason(error.reason, timeout_s)}", refused=refused) from error
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{url}: {_reason(error, timeout_s)}") from error
    except ValueError:
        # Its text can quote a header, and a header can be a key: neither the text nor the traceback may be shown.
        raise FetchError(f"{url}: the URL or a header holds characters that HTTP cannot carry") from None


def _reason(error: BaseException | str, timeout_s: float) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case ssl.SSLError():
            return failure_line(error)
        case socket.gaierror():
            return f"the name cannot be resolved: {error.strerror}"
        case _:
            return str(error) or type(error).__name__


def _answer(url: str, response: Any, status: int, body_bytes_max: int, deadline: Deadline) -> Answer:
    body = bytearray()
    while piece := response.read1(PIECE_BYTES):
        body += piece
        if len(body) > body_bytes_max:
            raise FetchError(f"{url}: the answer is longer than {body_bytes_max} bytes")
        if deadline.passed():
            raise FetchError(f"{url}: the answer had not ended in time")
    told = {k.lower(): v for k, v in response.headers.items()}
    encoding = one_line(told.get("content-encoding", "identity").strip().lower())
    return Answer(status=status, headers=told, body=_decoded(url, bytes(body), encoding, body_bytes_max))


def _decoded(url: str, body: bytes, encoding: str, body_bytes_max: int) -> bytes:
    """None was asked for (urllib says so); a proxy may not care, and the load can read these too."""
    body_decoder = decoder(encoding)
    if body_decoder is None or not body:
        return body
    if isinstance(body_decoder, Unreadable):
        raise FetchError(f"{url}: Content-Encoding: {encoding}: none was asked for; only gzip and deflate can be read")
    try:
        decoded = body_decoder.decode(body, body_bytes_max + 1)
    except InflateError as error:
        raise FetchError(f"{url}: Content-Encoding: {encoding}: {error}") from error
    if len(decoded) > body_bytes_max:
        raise FetchError(f"{url}: the answer is longer than {body_bytes_max} bytes")
    return decoded
