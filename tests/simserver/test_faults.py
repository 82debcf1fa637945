"""Faults on request: each is what a client would meet in the wild."""

import http.client
import json
from itertools import pairwise

import pytest

from loadstair.clock import Deadline, sleep_s
from loadstair.simserver.faults import (
    FAULT_SYNTAX,
    DieAt,
    Html,
    NoDone,
    Slow,
    Stall,
    Status,
    Truncate,
    parse_fault,
    parse_faults,
    request_faults,
)
from loadstair.simserver.ledger import read_ledger
from loadstair.simserver.main import DIED_STATUS
from loadstair.units import NS_PER_S
from tests.simserver.engine_process import chat_body, events, running_engine


def test_faults_are_read_from_the_command_line():
    assert parse_fault("die-at=2.5") == DieAt(2.5)
    assert parse_fault("status=429") == Status(429)
    assert parse_fault("stall=3:from=10") == Stall(3.0, from_s=10.0)
    assert parse_fault("truncate:share=0.2:from=5") == Truncate(from_s=5.0, share=0.2)


def test_several_faults_are_separated_by_commas():
    assert parse_faults("slow=1.5:from=30,html:share=0.5") == (Slow(1.5, from_s=30.0), Html(share=0.5))


@pytest.mark.parametrize(
    "text",
    [
        *("", "die-at", "die-at=soon", "status=404", "html=1", "explode", "slow=0", "stall", "die-at=1:share=0.5"),
        *("never-ready:from=1", "html:share=0", "html:share=1.5", "html:share", "html:for=1", "html:from=1:from=2"),
        *("stall=2:share=0.5", "status=500:"),
    ],
)
def test_anything_else_is_no_fault(text):
    with pytest.raises(ValueError, match="is no fault; one of die-at=SECONDS"):
        parse_fault(text)


def test_a_share_befalls_the_same_requests_for_one_seed_and_about_as_many_as_asked():
    def hit(seed: int) -> list[int]:
        faults = (Status(500, share=0.2),)
        return [n for n in range(1000) if request_faults(faults, seed=seed, number=n, since_start_s=0)]

    assert hit(1) == hit(1) != hit(2)
    assert len(hit(1)) == pytest.approx(200, abs=50)  # 4 standard deviations: sqrt(1000 * 0.2 * 0.8) = 12.6


def test_two_faults_of_one_share_befall_requests_independently():
    faults = (Status(500, share=0.5), NoDone(share=0.5))
    both = [len(request_faults(faults, seed=1, number=n, since_start_s=0)) for n in range(1000)]
    assert both.count(2) == pytest.approx(250, abs=55)  # 1000 * 0.5 * 0.5


def test_a_request_fault_waits_for_its_second():
    faults = (Html(from_s=5.0),)
    assert request_faults(faults, seed=0, number=0, since_start_s=4.9) == ()
    assert request_faults(faults, seed=0, number=0, since_start_s=5.0) == faults


@pytest.mark.parametrize("status", [429, 500, 503])
def test_every_completion_is_refused_with_the_status(tmp_path, status):
    with running_engine(tmp_path, "--fault", f"status={status}") as engine:
        answer = engine.chat(max_tokens=1)
        assert (answer.status, answer.json()["error"]["code"]) == (status, status)
        assert engine.get("/health").status == 200


def test_html_comes_with_status_200(tmp_path):
    with running_engine(tmp_path, "--fault", "html") as engine:
        answer = engine.chat(max_tokens=1, stream=True)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/html")


def test_a_stream_can_end_in_order_without_finish_and_done(tmp_path):
    with running_engine(tmp_path, "--fault", "no-done") as engine:
        chunks = events(engine.chat(max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4  # the role and 3 tokens


def test_an_engine_can_stay_unready(tmp_path):
    with running_engine(tmp_path, "--fault", "never-ready") as engine:
        assert engine.get("/health").status == 503


def test_an_engine_can_die(tmp_path):
    with running_engine(tmp_path, "--fault", "die-at=0.2") as engine:
        deadline = Deadline.after_s(20)
        while (status := engine.child.exit_status()) is None:
            assert not deadline.passed()
            sleep_s(0.02)
    assert status == DIED_STATUS


def test_a_truncated_stream_breaks_off_after_half_of_its_tokens_and_the_ledger_says_so(tmp_path):
    with running_engine(tmp_path, "--fault", "truncate") as engine:
        connection = engine.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(max_tokens=10, stream=True)))
        with pytest.raises(http.client.IncompleteRead) as broken:
            connection.getresponse().read()
        connection.close()
        assert engine.metric("vllm:num_requests_running") == 0
        (entry,) = engine.ledger()
    assert broken.value.partial.count(b'"content":" ') == len(entry.write_ns) == 5  # half of 10
    assert entry.finish == "error"


def test_a_stream_can_end_with_the_servers_error_event(tmp_path):
    with running_engine(tmp_path, "--fault", "stream-error") as engine:
        *chunks, error, done = events(engine.chat(max_tokens=4, stream=True))
        (entry,) = engine.ledger()
    assert (len(chunks), done) == (3, "[DONE]")  # the role and half of 4 tokens
    assert (error["error"]["code"], error["error"]["type"]) == (500, "InternalServerError")
    assert (entry.finish, len(entry.write_ns)) == ("error", 2)


def test_a_share_of_the_requests_fails_and_the_ledger_holds_the_others(tmp_path):
    with running_engine(tmp_path, "--fault", "status=503:share=0.5", "--seed", "3") as engine:
        statuses = [engine.chat(max_tokens=1).status for _ in range(30)]
        entries = engine.ledger()
    assert {200, 503} == set(statuses)
    assert len(entries) == statuses.count(200)


def test_a_stall_shows_in_the_ledger_as_one_long_gap(tmp_path):
    # 25 ms a step at most: a gap of most of a second is the stall.
    with running_engine(tmp_path, "--speed", "1", "--fault", "stall=1:from=0.5") as engine:
        engine.chat(max_tokens=100, stream=True)
        (entry,) = engine.ledger()
    gaps_ns = [after - before for before, after in pairwise(entry.write_ns)]
    assert len([gap_ns for gap_ns in gaps_ns if gap_ns > 0.9 * NS_PER_S]) == 1


def test_an_engine_that_dies_leaves_a_ledger_of_what_it_sent(tmp_path):
    with running_engine(tmp_path, "--speed", "1", "--fault", "die-at=1") as engine:
        connection = engine.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(max_tokens=30_000, stream=True)))
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as broken:
            connection.getresponse().read()
        connection.close()
        (entry,) = read_ledger(engine.ledger_path)
    assert entry.finish == "abort"
    if isinstance(broken.value, http.client.IncompleteRead):
        assert broken.value.partial.count(b'"content":" ') <= len(entry.write_ns)


def test_the_help_names_every_fault():
    names = ("die-at", "stall", "slow", "never-ready", "status", "html", "no-done", "truncate", "stream-error")
    assert all(name in FAULT_SYNTAX for name in names)
