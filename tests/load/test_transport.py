"""The transport on servers that compress, close, redirect, answer too soon or not at all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadstair.fetch import fetch
from tests.load.probe import Rows, outcomes, run_probe

ODD = [
    "foreign-header",
    "gzip-members",
    "deflate",
    "raw-deflate",
    "gzip-500",
    "gzip-bomb",
    "gzip-cut",
    "not-gzip",
    "brotli",
    "http-1.0",
    "closing",
    "surplus",
    "surplus-garbage",
    "trailers",
    "no-content",
    "redirect",
    "endless-hints",
    "fails-late",
]
LARGE = 400_000
"""Words in a prompt that no socket buffer takes at once."""
HUGE = 3_000_000
"""Words in a prompt that the socket buffers on both sides together don't take."""


@pytest.fixture(scope="module")
def rows(scripted_server: str) -> Rows:
    def job(name: str, script: str | None = None, *, requests: int = 1, **more: Any) -> dict[str, Any]:
        config = {"base_url": f"{scripted_server}/{script or name}/v1", **more.pop("config", {})}
        return {"name": name, "requests": requests, "config": config, **more}

    port = scripted_server.rpartition(":")[2]
    with deaf_server() as deaf, silent_server() as silent, plain_server() as plain:
        jobs = [job(script, requests=3) for script in ODD]
        jobs += [
            job("gzip", requests=2),
            job("large-chunk", requests=2),
            job("unread", requests=2, words=HUGE),
            job("unread-close", requests=2, words=LARGE),
            job("unread-hint", requests=2, words=LARGE),
            job("deep-path", config={"base_url": f"{scripted_server}/normal/behind/a/proxy/v1"}),
            job("ipv6", config={"base_url": f"http://[::1]:{port}/normal/v1"}),
            job("first-byte", "silent", config={"first_byte_timeout_s": 0.3}),
            job("first-byte-of-body", "head-only", config={"first_byte_timeout_s": 0.3}),
            job("first-byte-in-time", "stall", config={"first_byte_timeout_s": 0.3, "idle_timeout_s": 0.6}),
            job("total", "silent", config={"request_timeout_s": 0.3}),
            job("idle", "stall", config={"idle_timeout_s": 0.3}),
            job("deaf", config={"base_url": f"http://127.0.0.1:{deaf}/v1", "connect_timeout_s": 0.3}),
            job("no-handshake", config={"base_url": f"https://127.0.0.1:{silent}/v1", "connect_timeout_s": 0.3}),
            job("http-for-https", config={"base_url": f"https://127.0.0.1:{plain}/v1"}),
        ]
        return run_probe(jobs)


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port whose queue of connections is full: further ones get no answer at all."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def silent_server() -> Iterator[int]:
    """A port where connections are made and nobody says anything."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


@contextmanager
def plain_server() -> Iterator[int]:
    """A port where a TLS client is told in plain HTTP that it is wrong."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        server.settimeout(30)

        def refuse() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        teller = threading.Thread(target=refuse)
        teller.start()
        yield server.getsockname()[1]
        teller.join()


def errors(rows: Rows, name: str) -> set[str | None]:
    return {row["error"] for row in rows[name]}


@pytest.mark.parametrize(
    "script",
    [
        "foreign-header",
        "gzip",
        "gzip-members",
        "deflate",
        "raw-deflate",
        "http-1.0",
        "closing",
        "surplus",
        "surplus-garbage",
        "trailers",
    ],
)
def test_an_answer_is_read_whatever_its_form(rows: Rows, script: str) -> None:
    assert outcomes(rows, script) == {("ok", 200)}
    assert {row["output_tokens"] for row in rows[script]} == {5}


@pytest.mark.parametrize(
    ("script", "outcome", "status", "error"),
    [
        ("gzip-500", "http_error", 500, "HTTP 500: overloaded"),
        ("gzip-bomb", "malformed", 200, "body longer than 1130496 bytes, more than what was asked for can need"),
        ("gzip-cut", "malformed", 200, "Content-Encoding: gzip: the compressed body ends too early"),
        ("brotli", "malformed", 200, "Content-Encoding: br: none was asked for; only gzip and deflate can be read"),
        ("no-content", "malformed", 204, "status 204 where 200 was expected"),
        ("redirect", "http_error", 307, "HTTP 307: to http://other.example:8080: redirects are not followed"),
        ("endless-hints", "malformed", None, "headers longer than 262144 bytes"),
        ("first-byte", "timeout", None, "no first byte of an answer within 0.3 s"),
        ("first-byte-of-body", "timeout", 200, "no first byte of an answer within 0.3 s"),
        ("first-byte-in-time", "timeout", 200, "nothing came for 0.6 s"),
        ("total", "timeout", None, "not finished within 0.3 s"),
        ("idle", "timeout", 200, "nothing came for 0.3 s"),
    ],
)
def test_every_oddity_has_its_outcome_and_its_line(
    rows: Rows, script: str, outcome: str, status: int | None, error: str
) -> None:
    assert outcomes(rows, script) == {(outcome, status)}
    assert errors(rows, script) == {error}


def test_what_says_to_be_compressed_and_is_not_is_malformed(rows: Rows) -> None:
    assert outcomes(rows, "not-gzip") == {("malformed", 200)}
    assert all(row["error"].startswith("not gzip: ") for row in rows["not-gzip"])


@pytest.mark.parametrize(
    ("name", "outcome", "error"),
    [
        ("deaf", "timeout", "no connection within 0.3 s"),
        ("no-handshake", "timeout", "no TLS handshake within 0.3 s"),
        ("http-for-https", "refused", "no TLS there: the port seems to speak plain HTTP"),
    ],
)
def test_a_connection_that_does_not_come_about_is_told_by_its_stage(
    rows: Rows, name: str, outcome: str, error: str
) -> None:
    (row,) = rows[name]
    assert (row["outcome"], row["sent_ns"]) == (outcome, None)
    assert row["error"].startswith("127.0.0.1:")
    assert row["error"].endswith(f": {error}")


def test_tokens_of_a_compressed_stream_have_the_stamp_of_the_bytes_that_completed_them(
    rows: Rows, scripted_server: str
) -> None:
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    for row in rows["gzip"]:
        written = ledger[row["request_id"]]["written_ns"]
        for arrival, wrote in zip(row["arrivals"], written, strict=True):
            assert wrote < arrival


def test_a_connection_is_used_again_only_if_the_server_keeps_it(rows: Rows) -> None:
    for script in ("http-1.0", "closing", "surplus", "surplus-garbage"):
        assert [row["connect_ns"] is None for row in rows[script]] == [False, False, False], script
    for script in ("trailers", "deflate", "redirect"):
        assert [row["connect_ns"] is None for row in rows[script]] == [False, True, True], script


def test_a_request_that_the_server_failed_after_a_while_is_not_sent_again(rows: Rows) -> None:
    assert [row["outcome"] for row in rows["fails-late"]] == ["ok", "disconnected", "ok"]


def test_a_large_chunk_arrives_whole(rows: Rows) -> None:
    assert outcomes(rows, "large-chunk") == {("ok", 200)}
    assert {len(row["arrivals"]) for row in rows["large-chunk"]} == {1}


def test_an_answer_that_comes_before_the_server_has_read_a_large_prompt_is_read_at_once(rows: Rows) -> None:
    for script in ("unread", "unread-close"):
        assert outcomes(rows, script) == {("http_error", 413)}
        assert errors(rows, script) == {"HTTP 413: too_large"}
    assert outcomes(rows, "unread-hint") == {("ok", 200)}


def test_a_path_in_front_of_v1_is_kept(rows: Rows) -> None:
    assert outcomes(rows, "deep-path") == {("ok", 200)}


def test_an_ipv6_address_stands_in_brackets_with_its_port(rows: Rows, scripted_server: str) -> None:
    (row,) = rows["ipv6"]
    if row["outcome"] == "refused":
        pytest.skip("no IPv6 here")
    entry = fetch(f"{scripted_server}/ledger", timeout_s=5).json()[row["request_id"]]
    assert (row["outcome"], entry["host"]) == ("ok", f"[::1]:{scripted_server.rpartition(':')[2]}")


def test_without_a_name_and_without_tls_only_tcp_is_set_up(rows: Rows) -> None:
    first, *_ = rows["closing"]
    assert (first["dns_ns"], first["tls_ns"]) == (None, None)
    assert first["connect_ns"] > 0
