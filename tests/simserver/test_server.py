"""The engine behind HTTP, as its own process."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadstair.clock import Deadline, now_ns, sleep_s
from loadstair.simserver.server import BODY_BYTES_MAX
from loadstair.units import NS_PER_S
from tests.simserver.engine_process import MODEL, RunningEngine, chat_body, events, running_engine

SO_TIMESTAMPNS = 35


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


def test_a_stream_is_role_then_tokens_the_last_with_the_finish_then_done(engine):
    *chunks, done = events(engine.chat(max_tokens=3, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [len(delta["content"].split()) for delta in deltas[1:]] == [1, 1, 1]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    assert done == "[DONE]"


def test_usage_comes_last_when_it_was_asked_for(engine):
    *_, usage, _ = events(engine.chat(words=7, max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_an_answer_can_come_as_a_whole(engine):
    answer = engine.chat(words=7, max_tokens=3).json()
    assert answer["object"] == "chat.completion"
    assert len(answer["choices"][0]["message"]["content"].split()) == 3
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_completions_stream_text(engine):
    *chunks, _ = events(engine.post("/v1/completions", {"prompt": "a b c", "max_tokens": 2, "stream": True}))
    assert [len(chunk["choices"][0]["text"].split()) for chunk in chunks] == [1, 1]


def test_the_request_id_comes_back(engine):
    answer = engine.chat(max_tokens=1, stream=True, headers={"X-Request-Id": "r-17"})
    assert answer.headers["x-request-id"] == "r-17"
    assert events(answer)[0]["id"] == "chatcmpl-r-17"


def test_a_request_id_that_could_break_a_header_is_replaced(engine):
    answer = engine.chat(max_tokens=1, headers={"X-Request-Id": 'a" b'})
    assert answer.headers["x-request-id"].startswith("sim-")


def test_an_http_1_0_client_gets_the_stream_unchunked(engine):
    body = json.dumps(chat_body(max_tokens=2, stream=True)).encode()
    with socket.create_connection((engine.host, engine.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, stream = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert stream.startswith(b"data: {")
    assert stream.endswith(b"data: [DONE]\n\n")


def test_one_connection_carries_many_answers(engine):
    connection = engine.connection()
    for _ in range(3):
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(max_tokens=2, stream=True)))
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    connection.close()


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        (b"{", 400, "Bad Request"),
        (chat_body(model="other/model"), 404, "NotFoundError"),
        (chat_body(words=40_000), 400, "BadRequestError"),  # Qwen2.5-32B: 32768 tokens
        (chat_body(max_tokens=40_000), 400, "BadRequestError"),
    ],
)
def test_what_vllm_refuses_is_refused_in_its_words(engine, fields, status, kind):
    answer = engine.post("/v1/chat/completions", fields)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"]) == (status, status, kind)


def test_a_body_of_many_megabytes_is_read(engine):
    answer = engine.chat(max_tokens=1, messages=[{"role": "user", "content": "x" * 20_000_000}])
    assert answer.json()["usage"]["prompt_tokens"] == 1


def test_a_body_without_end_is_not(engine):
    answer = engine.post("/v1/chat/completions", b" " * (BODY_BYTES_MAX + 1))
    assert (answer.status, answer.json()["error"]["code"]) == (413, 413)


def test_it_names_its_model_and_says_that_it_is_well(engine):
    assert [model["id"] for model in engine.get("/v1/models").json()["data"]] == [MODEL]
    assert engine.get("/health").status == 200
    assert "loadstair" in engine.get("/version").json()["version"]


def test_the_metrics_page_parses_and_counts_what_was_sent(engine):
    before = engine.metric("vllm:generation_tokens_total")
    engine.chat(max_tokens=11)
    families = {family.name: family for family in text_string_to_metric_families(engine.get("/metrics").text())}
    assert engine.metric("vllm:generation_tokens_total") - before == 11
    assert families["vllm:time_to_first_token_seconds"].type == "histogram"
    assert families["vllm:num_requests_running"].type == "gauge"
    assert families["loadstair_sim_step_lateness_seconds"].type == "histogram"


def test_kv_blocks_are_in_use_while_a_request_runs_and_free_when_its_client_hangs_up(tmp_path):
    with running_engine(tmp_path) as engine:
        connection = engine.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(max_tokens=30_000, stream=True)))
        response = connection.getresponse()
        response.read(1)
        assert engine.metric("vllm:num_requests_running") == 1
        assert engine.metric("vllm:kv_cache_usage_perc") > 0
        response.close()
        connection.close()
        engine.wait_for_metric("vllm:num_requests_running", 0)
        assert engine.metric("vllm:kv_cache_usage_perc") == 0
        (entry,) = engine.ledger()
    assert entry.finish == "abort"
    assert 0 < entry.output_tokens < 30_000


def test_a_client_that_does_not_read_is_cut(tmp_path):
    with running_engine(tmp_path, "--speed", "100000") as engine:
        body = json.dumps(chat_body(max_tokens=32_000, stream=True)).encode()
        with socket.create_connection((engine.host, engine.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            client.sendall(body)
            engine.wait_for_metric("vllm:time_to_first_token_seconds_count", 1)
            engine.wait_for_metric("vllm:num_requests_running", 0)
        (entry,) = engine.ledger()
    assert entry.finish == "abort"
    assert entry.output_tokens < 32_000


def test_the_ledger_holds_a_stamp_for_each_token_between_request_and_answer(tmp_path):
    with running_engine(tmp_path) as engine:
        sent_ns = now_ns()
        engine.chat(words=9, max_tokens=40, stream=True, headers={"X-Request-Id": "a"})
        read_ns = now_ns()
        engine.chat(max_tokens=5, headers={"X-Request-Id": "b"})
        streamed, whole = engine.ledger()
    assert (streamed.request_id, streamed.input_tokens, streamed.output_tokens) == ("a", 9, 40)
    assert len(streamed.write_ns) == 40
    stamps = [sent_ns, streamed.received_ns, *streamed.write_ns, read_ns]
    assert all(before < after for before, after in pairwise(stamps))
    assert (whole.request_id, whole.finish, len(whole.write_ns)) == ("b", "length", 1)


def test_without_ignore_eos_answers_end_by_themselves_and_alike_for_one_seed(tmp_path):
    def lengths(folder_name: str) -> list[tuple[str, int]]:
        folder = tmp_path / folder_name
        folder.mkdir()
        with running_engine(folder, "--speed", "1000", "--seed", "7") as engine:
            answers = [engine.chat(max_tokens=2000, ignore_eos=False).json() for _ in range(6)]
        return [(answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) for answer in answers]

    first = lengths("first")
    assert first == lengths("second")
    assert len(set(first)) == 6
    assert "stop" in {finish for finish, _ in first}


def test_many_streams_at_once_each_get_their_own_tokens(engine):
    lengths = range(20, 68)
    connections = [engine.connection() for _ in lengths]
    for length, connection in zip(lengths, connections, strict=True):
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(max_tokens=length, stream=True)))
    bodies = [connection.getresponse().read() for connection in connections]
    assert [body.count(b'"content":" ') for body in bodies] == list(lengths)
    for connection in connections:
        connection.close()


def test_an_engine_short_of_memory_preempts_and_still_answers_in_full(tmp_path):
    # One H100 NVL: 61 GiB of weights leave a few hundred blocks at this share.
    with running_engine(tmp_path, "--tp", "1", "--gpu-memory-utilization", "0.7", "--speed", "100") as engine:
        connections = [engine.connection() for _ in range(24)]
        body = json.dumps(chat_body(words=100, max_tokens=400, stream=True))
        for connection in connections:
            connection.request("POST", "/v1/chat/completions", body)
        bodies = [connection.getresponse().read() for connection in connections]
        for connection in connections:
            connection.close()
        assert engine.metric("vllm:num_preemptions_total") > 0
        assert engine.metric("vllm:prompt_tokens_total") == 2400  # 24 x 100, recomputed ones not counted again
        entries = engine.ledger()
    assert [stream.count(b'"content":" ') for stream in bodies] == [400] * 24
    assert {len(entry.write_ns) for entry in entries} == {400}


def test_the_openai_sdk_reads_the_stream(engine):
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="unused", max_retries=0) as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "one two three"}],
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, usage = list(stream)
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.completions.create(model="other", prompt="one")
    text = "".join(chunk.choices[0].delta.content for chunk in chunks)
    assert len(text.split()) == 5
    assert usage.usage.completion_tokens == 5


def test_kernel_receive_stamps_are_never_earlier_than_the_ledgers(tmp_path):
    body = json.dumps(chat_body(max_tokens=30, stream=True)).encode()
    arrivals_ns: list[int | None] = []
    with running_engine(tmp_path, "--speed", "5") as engine:
        with socket.create_connection((engine.host, engine.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            client.sendall(body)
            data = b""
            while b"[DONE]" not in data:
                data, control, _, _ = client.recvmsg(65536, 64)
                arrived_ns = None  # the kernel begins to stamp a moment after the first socket asked for it
                if control:
                    seconds, nanoseconds = struct.unpack("qq", control[0][2])
                    arrived_ns = seconds * NS_PER_S + nanoseconds
                # Reads that come late hold several tokens and the stamp of the last of them.
                arrivals_ns += [arrived_ns] * data.count(b'"content":" ')
        (entry,) = engine.ledger()
    assert len(arrivals_ns) == len(entry.write_ns) == 30
    assert arrivals_ns[-1] is not None
    both_ns = zip(entry.write_ns, arrivals_ns, strict=True)
    assert all(arrived_ns is None or written_ns <= arrived_ns for written_ns, arrived_ns in both_ns)


def test_a_taken_port_is_one_line_and_exit_status_3(engine):
    command = [sys.executable, "-m", "loadstair.simserver", "--port", str(engine.port), "--model", MODEL]
    ended = subprocess.run([*command, "--gpu", "h100-nvl"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert ended.stderr.startswith(f"simserver: cannot listen on 127.0.0.1:{engine.port}: ")
    assert ended.stderr.count("\n") == 1


def test_a_wrong_command_line_is_one_line_and_exit_status_2():
    command = [sys.executable, "-m", "loadstair.simserver", "--model", "no/such", "--gpu", "h100-nvl"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_a_full_disk_under_the_ledger_ends_the_engine_with_exit_status_3(tmp_path):
    with running_engine(tmp_path, "--ledger", "/dev/full") as engine:
        engine.chat(max_tokens=2)
        deadline = Deadline.after_s(20)
        while (status := engine.child.exit_status()) is None:
            assert not deadline.passed()
            sleep_s(0.02)
        assert status == 3
        assert "/dev/full: cannot write the ledger: No space left on device" in engine.child.log_tail()
