"""Servers are not trusted with our time."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadstair.fetch import FetchError, fetch


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

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
