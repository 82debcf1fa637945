"""Servers are not trusted with our time, nor to send what was asked for."""

import gzip
import http.server
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadstair.fetch import FetchError, fetch
from loadstair.tls import failure_line


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def trickling_server(piece: bytes) -> Iterator[str]:
    """Sends the piece again and again, a little apart, until the client hangs up."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
            while not hung_up.wait(0.02):
                try:
                    connection.sendall(piece)
                except OSError:
                    return

    hung_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            hung_up.set()
            thread.join()


def test_a_body_that_never_ends_is_given_up() -> None:
    with trickling_server(b".") as url, pytest.raises(FetchError, match="had not ended in time"):
        fetch(url, timeout_s=0.3)


def test_a_body_that_is_too_long_is_given_up() -> None:
    with trickling_server(b"." * 4096) as url, pytest.raises(FetchError, match="longer than 10000 bytes"):
        fetch(url, timeout_s=30, body_bytes_max=10_000)


@contextmanager
def redirecting_server(location: str, seen: list[str]) -> Iterator[str]:
    """/from redirects to `location`; every other path answers with its name. `seen` gets `PATH AUTHORIZATION`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(302 if self.path == "/from" else 200)
            if self.path == "/from":
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with serving(Handler) as url:
        yield url


def test_a_redirect_within_the_origin_is_followed() -> None:
    with redirecting_server("/to", []) as url:
        assert fetch(f"{url}/from", timeout_s=5).text() == "/to"


def test_a_redirect_to_another_origin_is_not_sent_our_key() -> None:
    elsewhere_saw: list[str] = []
    with (
        redirecting_server("/to", elsewhere_saw) as elsewhere,
        redirecting_server(f"{elsewhere}/stolen", []) as here,
    ):
        answer = fetch(f"{here}/from", headers={"Authorization": "Bearer secret"}, timeout_s=5)
    assert answer.status == 302
    assert elsewhere_saw == []


@contextmanager
def answering_server(encoding: str, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with serving(Handler) as url:
        yield url


@pytest.mark.parametrize(("encoding", "compressed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_what_was_compressed_unasked_is_read_all_the_same(encoding: str, compressed: Callable[[bytes], bytes]) -> None:
    with answering_server(encoding, compressed(b"data: [DONE]")) as url:
        assert fetch(url, timeout_s=5).text() == "data: [DONE]"


@pytest.mark.parametrize(
    ("encoding", "body", "line"),
    [
        ("br", b"?", "Content-Encoding: br: none was asked for; only gzip and deflate can be read"),
        ("gzip", b"plain", "Content-Encoding: gzip: .*incorrect header check"),
        ("gzip", gzip.compress(b"." * 10_001, mtime=0), "longer than 10000 bytes"),
    ],
)
def test_what_cannot_be_decoded_is_told(encoding: str, body: bytes, line: str) -> None:
    with answering_server(encoding, body) as url, pytest.raises(FetchError, match=line):
        fetch(url, timeout_s=5, body_bytes_max=10_000)


def test_nobody_answers_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(FetchError, match=r"no answer within 0\.1 s"):
        fetch(f"http://127.0.0.1:{mute.getsockname()[1]}/", timeout_s=0.1)


def test_a_tls_request_to_a_plain_port_is_told_as_that() -> None:
    with answering_server("identity", b"") as url, pytest.raises(FetchError, match="seems to speak plain HTTP"):
        fetch(url.replace("http:", "https:"), timeout_s=5)


@pytest.mark.parametrize(
    ("code", "advice"), [(10, "renew it"), (62, "use a name that the certificate holds"), (19, "name its CA's file")]
)
def test_the_advice_fits_what_is_wrong_with_a_certificate(code: int, advice: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "wrong"
    assert f"certificate verify failed: wrong; {advice}" in failure_line(error)
