"""The paced server keeps its timetable, and its books say what it really did."""

import http.client
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadstair.calibrate.compiler import built, cache_folder
from loadstair.calibrate.paced import PacedServer, Truth
from loadstair.clock import Deadline, sleep_s
from loadstair.errors import LoadstairError
from loadstair.fetch import fetch
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from loadstair.units import NS_PER_MS

pytestmark = pytest.mark.skipif(built("paced_server.c") is None, reason="needs Linux and a C compiler")

WAIT_S = 10.0


def chat_body(*, tokens: int, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "one two three"}
    return {"model": "any", "stream": True, "max_tokens": tokens, "messages": [message], **fields}


def ask(server: PacedServer, path: str, fields: Any, headers: dict[str, str] | None = None) -> str:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return fetch(f"{server.url}/v1/{path}", body=body, headers=headers, timeout_s=WAIT_S).text()


def events(answer: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in answer.splitlines() if line]
    return [json.loads(event) for event in data[:-1]] + data[-1:]


@contextmanager
def connection(server: PacedServer) -> Iterator[http.client.HTTPConnection]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    opened = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    try:
        yield opened
    finally:
        opened.close()


def wait_for(server: PacedServer, wanted: Callable[[Truth], bool]) -> Truth:
    deadline = Deadline.after_s(WAIT_S)
    while not wanted(truth := server.truth()):
        assert not deadline.passed(), truth
        sleep_s(0.01)
    return truth


@pytest.fixture(scope="module")
def fast() -> Iterator[PacedServer]:
    with PacedServer(ttft_ms=1, gap_ms=1) as server:
        yield server


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, dict[str, LedgerEntry]]:
    """What the server counted and what its ledger says, of six streams that ran together on kept connections."""
    ledger = tmp_path_factory.mktemp("paced") / "ledger.jsonl"
    with PacedServer(ttft_ms=20, gap_ms=10, ledger=ledger) as server:
        for turn in range(2):
            opened = [connection(server) for _ in range(3)]
            try:
                streams = [each.__enter__() for each in opened]
                for number, stream in enumerate(streams):
                    headers = {"X-Request-Id": f"turn-{turn}-{number}"}
                    stream.request("POST", "/v1/chat/completions", json.dumps(chat_body(tokens=8)), headers)
                for stream in streams:
                    assert b"[DONE]" in stream.getresponse().read()
            finally:
                for each in opened:
                    each.__exit__(None, None, None)
        truth = server.truth()
    return truth, {entry.request_id: entry for entry in read_ledger(ledger)}


def test_no_token_leaves_before_it_is_due(kept: tuple[Truth, dict[str, LedgerEntry]]) -> None:
    for entry in kept[1].values():
        for k, written_ns in enumerate(entry.write_ns):
            assert written_ns >= entry.received_ns + (20 + 10 * k) * NS_PER_MS


def test_a_late_token_does_not_move_those_behind_it(kept: tuple[Truth, dict[str, LedgerEntry]]) -> None:
    truth, ledger = kept
    assert truth.late.max_ns is not None
    for entry in ledger.values():
        due_ns = entry.received_ns + 20 * NS_PER_MS + 10 * NS_PER_MS * np.arange(8)
        assert (
            np.array(entry.write_ns) - due_ns
        ).max() <= truth.late.max_ns + 1  # the offset of the clocks is whole ns


def test_what_it_counts_is_what_its_ledger_says(kept: tuple[Truth, dict[str, LedgerEntry]]) -> None:
    truth, ledger = kept
    ttft = np.array([entry.write_ns[0] - entry.received_ns for entry in ledger.values()])
    itl = np.concatenate([np.diff(entry.write_ns) for entry in ledger.values()])
    assert (truth.requests, truth.tokens) == (6, 48)  # 2 turns × 3 streams; each of 8 tokens
    assert (truth.ttft.n, truth.ttft.sum_ns, truth.ttft.max_ns) == (6, ttft.sum(), ttft.max())
    assert (truth.itl.n, truth.itl.sum_ns, truth.itl.max_ns) == (42, itl.sum(), itl.max())  # 6 × (8 − 1)
    for share, told in ((50, truth.itl.p50_ns), (90, truth.itl.p90_ns), (99, truth.itl.p99_ns)):
        assert told == pytest.approx(np.percentile(itl, share, method="inverted_cdf"), rel=0.001)


def test_its_ledger_reads_like_the_simulated_engines(kept: tuple[Truth, dict[str, LedgerEntry]]) -> None:
    entry = kept[1]["turn-1-2"]
    assert (entry.input_tokens, entry.output_tokens, entry.finish) == (3, 8, "length")  # "one two three"


def test_a_chat_is_streamed_as_vllm_does_it(fast: PacedServer) -> None:
    asked = chat_body(tokens=3, stream_options={"include_usage": True})
    role, *tokens, finish, usage, done = events(ask(fast, "chat/completions", asked))
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in tokens] == [" the"] * 3
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert done == "[DONE]"


def test_usage_comes_only_where_it_was_asked_for(fast: PacedServer) -> None:
    *tokens, finish, _ = events(ask(fast, "completions", {"prompt": "a b", "stream": True, "max_tokens": 2}))
    assert [chunk["choices"][0]["text"] for chunk in (*tokens, finish)] == [" the", " the", ""]


def test_chunks_can_be_made_longer() -> None:
    with PacedServer(ttft_ms=0, gap_ms=0, chunk_bytes=1000) as server:
        answer = ask(server, "chat/completions", chat_body(tokens=2))
    _, first, second, *_ = answer.split("\n\n")
    assert len(first) + len("\n\n") == len(second) + len("\n\n") == 1000


def test_a_long_prompt_is_read_whole(fast: PacedServer) -> None:
    asked = {"prompt": "word " * 400_000, "stream": True, "max_tokens": 1, "stream_options": {"include_usage": True}}
    *_, usage, _ = events(ask(fast, "completions", asked))
    assert usage["usage"]["prompt_tokens"] == 400_001  # by its spaces


@pytest.mark.parametrize(
    ("asked", "mistake"),
    [
        (b"[1, 2]", "no JSON object"),
        (b'{"stream": true, "messages": [', "no JSON object"),
        (b"[" * 100, "no JSON object"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deep"),
        (chat_body(tokens=0), "max_tokens"),
        (chat_body(tokens=2, stream=False), "ask for a stream"),
    ],
)
def test_what_it_cannot_serve_is_refused_in_a_line(fast: PacedServer, asked: Any, mistake: str) -> None:
    assert mistake in json.loads(ask(fast, "chat/completions", asked))["error"]["message"]


@pytest.mark.parametrize(
    "message", [b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 70_000, b"POST / HTTP/1.1\r\nContent-Length: 1e9\r\n\r\n"]
)
def test_what_is_not_http_ends_the_connection(fast: PacedServer, message: bytes) -> None:
    host, _, port = fast.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as sock:
        sock.sendall(message)
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
    assert fetch(f"{fast.url}/health", timeout_s=WAIT_S).status == 200


def test_a_client_that_hangs_up_ends_its_stream_and_no_other(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with PacedServer(ttft_ms=0, gap_ms=2, ledger=ledger) as server:
        with connection(server) as leaving:
            leaving.request(
                "POST", "/v1/chat/completions", json.dumps(chat_body(tokens=100_000)), {"X-Request-Id": "left"}
            )
            leaving.getresponse().read(500)
        wait_for(server, lambda truth: truth.streams == 0)
        assert "[DONE]" in ask(server, "chat/completions", chat_body(tokens=2), {"X-Request-Id": "stayed"})
    left, stayed = read_ledger(ledger)
    assert (left.request_id, left.finish) == ("left", "abort")
    assert 0 < left.output_tokens == len(left.write_ns) < 100_000
    assert (stayed.request_id, stayed.finish) == ("stayed", "length")


def test_a_client_that_does_not_read_holds_up_itself_alone() -> None:
    with PacedServer(ttft_ms=0, gap_ms=0) as server, connection(server) as slow:
        slow.request("POST", "/v1/chat/completions", json.dumps(chat_body(tokens=60_000)))
        assert "[DONE]" in ask(server, "chat/completions", chat_body(tokens=5))
        assert slow.getresponse().read().count(b'" the"') == 60_000
        assert server.truth().tokens == 60_005


def test_a_reset_forgets_what_was(fast: PacedServer) -> None:
    ask(fast, "chat/completions", chat_body(tokens=2))
    fast.reset()
    assert fast.truth().tokens == 0
    assert fast.truth().itl.p99_ns is None
    ask(fast, "chat/completions", chat_body(tokens=2))
    assert (fast.truth().tokens, fast.truth().ttft.n, fast.truth().itl.n) == (2, 1, 1)


def test_ttfts_vary_by_the_seed_alone(tmp_path: Path) -> None:
    def drawn_ns(number: int) -> list[int]:
        """To the ms: how late a token was is not drawn."""
        ledger = tmp_path / f"{number}.jsonl"
        with PacedServer(ttft_ms=30, gap_ms=1, ttft_cv=0.8, seed=7, ledger=ledger) as server:
            for _ in range(3):
                ask(server, "chat/completions", chat_body(tokens=1))
        return [entry.write_ns[0] - entry.received_ns for entry in read_ledger(ledger)]

    first, second = drawn_ns(1), drawn_ns(2)
    assert len({ns // (2 * NS_PER_MS) for ns in first}) > 1
    assert np.argsort(first).tolist() == np.argsort(second).tolist()


def test_a_program_is_compiled_once_and_a_mistake_in_it_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    good, bad = tmp_path / "good.c", tmp_path / "bad.c"
    good.write_text("int main(void) { return 0; }\n")
    bad.write_text("int main(void) { return oops; }\n")
    program = built(good)
    assert program is not None
    made_ns = program.stat().st_mtime_ns
    assert built(good) == program
    assert program.stat().st_mtime_ns == made_ns
    with pytest.raises(LoadstairError, match=r"^bad\.c: .*oops.*$"):
        built(bad)
    assert [path.name for path in cache_folder({"XDG_CACHE_HOME": str(tmp_path / "cache")}).iterdir()] == [program.name]


def test_a_cache_folder_that_cannot_be_looked_into_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("long" * 100)))  # 255 bytes is the most that a name can have
    with pytest.raises(LoadstairError, match="cannot keep a compiled program here: File name too long"):
        built("paced_server.c")


def test_without_a_compiler_there_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    assert shutil.which("cc") is None
    assert built("paced_server.c") is None
