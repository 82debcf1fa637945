"""The real client (SDK, transport, parser) against a server that behaves oddly, in a process of its own."""

import socket
import sys
from typing import Any

import pytest

from loadstair.fetch import fetch
from tests.load.probe import Rows, outcomes, run_probe

ODD = [
    "split",
    "length",
    "close-delimited",
    "close-after-stream",
    "early-hints",
    "hints-only",
    "fickle",
    "too-large",
    "no-done",
    "error-in-stream",
    "html",
    "not-http",
    "status-500",
    "status-429",
    "status-302",
    "cut",
    "mute",
    "bunched",
    "bad-frame",
    "bad-at-once",
    "endless",
]


@pytest.fixture(scope="module")
def rows(scripted_server: str) -> Rows:
    def job(name: str, script: str, *, requests: int = 1, **more: Any) -> dict[str, Any]:
        config = {"base_url": f"{scripted_server}/{script}/v1", **more.pop("config", {})}
        return {"name": name, "requests": requests, "config": config, **more}

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        jobs = [job(script, script, requests=3) for script in ODD]
        jobs += [
            job("normal", "normal", requests=3),
            job("together", "normal", requests=20, together=True),
            job("per-request", "length", requests=2, config={"connections": "per_request"}),
            job("large", "normal", requests=2, words=400_000),
            job("completions", "length", endpoint="completions"),
            job("stall", "stall", config={"idle_timeout_s": 0.5}),
            job("silent", "silent", config={"request_timeout_s": 0.5}),
            job("killed", "stall", kill=True),
            job("locked", "late-body", locked=True),
            job("refused", "", config={"base_url": refused}),
            job("unknown-host", "", config={"base_url": "http://no-such-host.invalid/v1"}),
        ]
        return run_probe(jobs)


@pytest.mark.parametrize("script", ["normal", "split", "length", "close-delimited", "close-after-stream", "together"])
def test_every_way_of_framing_a_stream_is_read_to_its_end(rows: Rows, script: str) -> None:
    assert outcomes(rows, script) == {("ok", 200)}
    assert {(len(row["arrivals"]), row["output_tokens"], row["finish_reason"]) for row in rows[script]} == {
        (5, 5, "length")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what it receives")
def test_each_stamp_lies_between_the_servers_write_of_its_token_and_of_the_next(
    rows: Rows, scripted_server: str
) -> None:
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    for row in rows["normal"]:
        assert row["clock"] == "kernel"
        written = ledger[row["request_id"]]["written_ns"]
        for arrival, wrote, wrote_next in zip(row["arrivals"], written, [*written[1:], row["end_ns"] + 1], strict=True):
            if row["arrivals"].count(arrival) == 1:  # a bunched token has no time of its own
                assert wrote < arrival < wrote_next


def test_times_of_a_request_come_in_their_order(rows: Rows, scripted_server: str) -> None:
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    for row in [*rows["normal"], *rows["together"]]:
        began = ledger[row["request_id"]]["began_ns"]
        assert row["dispatch_ns"] < row["sent_ns"] < began < row["headers_ns"] <= row["first_token_ns"]
        assert row["first_token_ns"] < row["last_token_ns"] <= row["end_ns"]


def test_only_a_fresh_connection_has_a_set_up_time(rows: Rows) -> None:
    assert [row["connect_ns"] is None for row in rows["normal"]] == [False, True, True]
    assert [row["connect_ns"] is None for row in rows["per-request"]] == [False, False]


def test_a_server_that_closes_in_spite_of_its_keep_alive_costs_no_request(rows: Rows) -> None:
    assert outcomes(rows, "close-after-stream") == {("ok", 200)}


def test_a_reused_connection_that_was_given_up_is_replaced_once(rows: Rows) -> None:
    assert outcomes(rows, "fickle") == {("ok", 200)}
    assert [row["connect_ns"] is None for row in rows["fickle"]] == [False, False, False]
    assert outcomes(rows, "mute") == {("disconnected", None)}


def test_a_prompt_larger_than_any_socket_buffer_arrives_whole(rows: Rows) -> None:
    assert outcomes(rows, "large") == {("ok", 200)}
    assert {row["input_tokens"] for row in rows["large"]} == {400_000}


@pytest.mark.parametrize(
    ("script", "outcome", "status"),
    [
        ("no-done", "truncated", 200),
        ("error-in-stream", "stream_error", 200),
        ("html", "malformed", 200),
        ("not-http", "malformed", None),
        ("early-hints", "ok", 200),
        ("hints-only", "disconnected", None),
        ("too-large", "http_error", 413),
        ("status-500", "http_error", 500),
        ("status-429", "http_error", 429),
        ("status-302", "http_error", 302),
        ("cut", "disconnected", 200),
        ("bad-frame", "malformed", 200),
        ("bad-at-once", "malformed", 200),
        ("endless", "malformed", 200),
        ("locked", "malformed", 200),
        ("mute", "disconnected", None),
        ("stall", "timeout", 200),
        ("silent", "timeout", None),
        ("killed", "killed", 200),
        ("refused", "refused", None),
        ("unknown-host", "refused", None),
        ("completions", "ok", 200),
    ],
)
def test_every_ending_has_its_outcome(rows: Rows, script: str, outcome: str, status: int | None) -> None:
    assert outcomes(rows, script) == {(outcome, status)}


def test_what_came_before_a_request_broke_off_is_kept(rows: Rows) -> None:
    for script in ("cut", "stall", "killed", "error-in-stream"):
        assert [len(row["arrivals"]) for row in rows[script]] == [1] * len(rows[script])


def test_tokens_in_front_of_a_broken_frame_have_their_stamp(rows: Rows) -> None:
    for row in (*rows["bad-frame"], *rows["bad-at-once"]):
        assert "not HTTP" in row["error"]
        assert len(row["arrivals"]) == 2
        # One segment or two: a client that is late reads both at once.
        assert row["headers_ns"] <= row["arrivals"][0] == row["arrivals"][1]


def test_an_answer_is_read_only_as_far_as_what_was_asked_for_can_need(rows: Rows) -> None:
    for row in rows["endless"]:
        assert "body longer than 1130496 bytes" in row["error"]  # 1 MiB + 5 tokens * 16 KiB
        assert len(row["arrivals"]) <= 292  # (1130496 + 64 KiB of the last read) / 4096 bytes in each


def test_a_mistake_of_the_client_itself_ends_the_request_and_is_named(rows: Rows) -> None:
    assert rows["locked"][0]["error"] == "the client failed: BufferError"


def test_errors_are_one_line_without_anything_of_the_response(rows: Rows) -> None:
    errors = [row["error"] for found in rows.values() for row in found if row["outcome"] != "ok"]
    assert all(error and len(error) <= 200 and "\n" not in error for error in errors)
    assert not [error for error in errors if "secret" in error]


def test_a_request_that_never_left_has_no_send_time(rows: Rows) -> None:
    assert rows["refused"][0]["sent_ns"] is None
    assert rows["silent"][0]["sent_ns"] is not None
    assert rows["silent"][0]["headers_ns"] is None


def test_tokens_that_the_server_merged_are_counted_as_bunched(rows: Rows) -> None:
    for row in rows["bunched"]:
        assert len(row["arrivals"]) == 3
        assert row["arrivals"][0] == row["arrivals"][1]
        assert row["bunched"] == 3 - len(set(row["arrivals"]))  # the third too, where the client was late


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what it receives")
def test_stamps_stay_true_while_the_worker_is_too_busy_to_read(scripted_server: str) -> None:
    job = {"name": "busy", "requests": 5, "together": True, "config": {"base_url": f"{scripted_server}/normal/v1"}}
    rows = run_probe([job], "busy")["busy"]
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    own, all_lags = 0, []
    for row in rows:
        all_lags.append(row["read_lag_ns"])
        written = ledger[row["request_id"]]["written_ns"]
        for arrival, wrote, wrote_next in zip(row["arrivals"], written, [*written[1:], row["end_ns"] + 1], strict=True):
            if row["arrivals"].count(arrival) == 1:
                own += 1
                assert wrote < arrival < wrote_next
    assert own > 0
    assert max(all_lags) > 2_000_000  # the loop was kept from its sockets for 12 ms at a time
