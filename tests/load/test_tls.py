"""TLS: the kernel's stamps of the ciphertext, the certificate's verification, and ends that are none."""

import sys
from pathlib import Path
from typing import Any

import pytest

from loadstair.fetch import fetch
from loadstair.tls import client_context
from tests.load.probe import Rows, outcomes, run_probe


@pytest.fixture(scope="module")
def rows(tls_server: str, certificate: Path) -> Rows:
    def job(name: str, script: str | None = None, *, requests: int = 1, **more: Any) -> dict[str, Any]:
        base = {"base_url": f"{tls_server}/{script or name}/v1", "tls_ca": str(certificate)}
        return {"name": name, "requests": requests, "config": {**base, **more.pop("config", {})}, **more}

    by_address = tls_server.replace("localhost", "127.0.0.1") + "/normal/v1"
    jobs = [
        job("normal", requests=3),
        job("together", "normal", requests=8, together=True),
        job("length", requests=3),
        job("split"),
        job("fickle", requests=2),
        job("cut"),
        job("close-delimited"),
        job("abrupt"),
        job("killed", "stall", kill=True),
        job("stall", config={"idle_timeout_s": 0.3}),
        job("large", "normal", requests=2, words=200_000),
        job("unread", words=3_000_000),
        job("unread-hint", words=200_000),
        job("unknown-ca", "normal", config={"tls_ca": None}),
        job("unverified", "normal", config={"tls_ca": None, "tls_verify": False}),
        job("by-address", config={"base_url": by_address}),
        job("by-address-unverified", config={"base_url": by_address, "tls_verify": False}),
    ]
    return run_probe(jobs)


@pytest.mark.parametrize(
    ("name", "outcome", "status"),
    [
        ("normal", "ok", 200),
        ("together", "ok", 200),
        ("length", "ok", 200),
        ("split", "ok", 200),
        ("fickle", "ok", 200),
        ("large", "ok", 200),
        ("close-delimited", "ok", 200),
        ("abrupt", "disconnected", 200),
        ("cut", "disconnected", 200),
        ("killed", "killed", 200),
        ("stall", "timeout", 200),
        ("unread", "http_error", 413),
        ("unread-hint", "ok", 200),
        ("unverified", "ok", 200),
        ("by-address-unverified", "ok", 200),
        ("unknown-ca", "refused", None),
        ("by-address", "refused", None),
    ],
)
def test_every_ending_has_the_outcome_that_it_has_without_tls(
    rows: Rows, name: str, outcome: str, status: int | None
) -> None:
    assert outcomes(rows, name) == {(outcome, status)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what it receives")
def test_each_stamp_is_the_kernels_and_lies_between_the_servers_writes(rows: Rows, tls_server: str) -> None:
    ledger = fetch(f"{tls_server}/ledger", timeout_s=5, tls=client_context(ca=None, verify=False)).json()
    for row in rows["normal"]:
        assert row["clock"] == "kernel"
        assert row["read_lag_ns"] >= 0
        written = ledger[row["request_id"]]["written_ns"]
        for arrival, wrote, wrote_next in zip(row["arrivals"], written, [*written[1:], row["end_ns"] + 1], strict=True):
            if row["arrivals"].count(arrival) == 1:  # a bunched token has no time of its own
                assert wrote < arrival < wrote_next


def test_look_up_tcp_and_tls_are_timed_apart_and_only_once(rows: Rows) -> None:
    first, *others = rows["normal"]
    assert min(first["dns_ns"], first["connect_ns"], first["tls_ns"]) > 0
    assert first["sent_ns"] - first["dispatch_ns"] >= first["dns_ns"] + first["connect_ns"] + first["tls_ns"]
    assert {(row["dns_ns"], row["connect_ns"], row["tls_ns"]) for row in others} == {(None, None, None)}


def test_a_certificate_that_is_not_trusted_is_told_with_what_is_wrong_with_it(rows: Rows) -> None:
    (unknown,), (mismatch,) = rows["unknown-ca"], rows["by-address"]
    assert "certificate verify failed: self-signed certificate; name its CA's file in tls.ca" in unknown["error"]
    assert "certificate verify failed: IP address mismatch" in mismatch["error"]
    assert {unknown["sent_ns"], mismatch["sent_ns"]} == {None}


def test_an_end_without_close_notify_completes_no_body_that_has_no_length(rows: Rows) -> None:
    (row,) = rows["abrupt"]
    assert row["error"] == "connection broken inside the body: closed without TLS's close_notify"
