"""What a stream brings beside its tokens: chunks of several, usage, comments, log probabilities, stop strings."""

import json
import socket

import pytest

from tests.simserver.engine_process import chat_body, events, running_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with running_engine(tmp_path_factory.mktemp("streams")) as running:
        yield running


def words_by_chunk(chunks) -> list[int]:
    return [len(chunk["choices"][0]["delta"]["content"].split()) for chunk in chunks if chunk["choices"]]


def test_the_role_chunk_is_a_write_of_its_own_before_the_first_token(engine):
    body = json.dumps(chat_body(max_tokens=2, stream=True)).encode()
    with socket.create_connection((engine.host, engine.port)) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += client.recv(65536)
    frames = answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
    assert b'"role":"assistant","content":""' in frames[0]
    assert b'"content":" ' in frames[1]


def test_with_an_interval_the_first_chunk_has_one_token_and_the_last_the_rest(tmp_path):
    with running_engine(tmp_path, "--stream-interval", "4") as engine:
        *chunks, _ = events(engine.chat(max_tokens=11, stream=True))
        (entry,) = engine.ledger()
    assert words_by_chunk(chunks) == [0, 1, 4, 4, 2]  # the role; 11 = 1 + 4 + 4 + 2
    assert len(entry.write_ns) == 4
    assert entry.output_tokens == 11


def test_usage_can_come_with_every_chunk(engine):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, _ = events(engine.chat(words=7, max_tokens=3, stream=True, stream_options=options))
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3, 3]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {7}


def test_a_silent_stream_is_kept_alive_by_comments(tmp_path):
    slow = ("--speed", "1", "--fault", "stall=1", "--sse-keep-alive-interval", "0.2")
    with running_engine(tmp_path, *slow) as engine:
        answer = engine.chat(max_tokens=2, stream=True).text()
        (entry,) = engine.ledger()
    assert answer.startswith(": keep-alive\n\n")
    assert answer.endswith("data: [DONE]\n\n")
    assert len(entry.write_ns) == 2  # comments are no tokens


def test_log_probabilities_come_with_their_tokens(engine):
    *chunks, _ = events(engine.chat(max_tokens=2, stream=True, logprobs=True, top_logprobs=2))
    (entry,) = chunks[1]["choices"][0]["logprobs"]["content"]
    assert entry["token"] == chunks[1]["choices"][0]["delta"]["content"]
    assert entry["top_logprobs"][0]["token"] == entry["token"]
    assert len(entry["top_logprobs"]) == 2
    whole = engine.post("/v1/completions", {"prompt": "a", "max_tokens": 3, "logprobs": 1}).json()
    assert len(whole["choices"][0]["logprobs"]["tokens"]) == 3


def test_an_answer_ends_at_a_stop_string_which_is_not_sent(engine):
    # The words begin: measure latency balance
    *chunks, _ = events(engine.chat(max_tokens=50, stream=True, stop=["tency"]))
    last = chunks[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"], last["delta"]["content"]) == ("stop", "tency", " la")
    whole = engine.chat(max_tokens=50, stop="balance").json()["choices"][0]
    assert (whole["finish_reason"], whole["message"]["content"]) == ("stop", " measure latency ")
