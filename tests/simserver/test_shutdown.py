"""SIGTERM: what is in flight is cut, or may end first; as vLLM's `--shutdown-timeout`."""

import http.client
import json
from contextlib import contextmanager

import pytest

from tests.cli import wait_for
from tests.simserver.engine_process import chat_body, running_engine


@contextmanager
def stream(engine, *, tokens: int, name: str):
    """Its response, once it has begun."""
    connection = engine.connection()
    body = json.dumps(chat_body(max_tokens=tokens, stream=True))
    connection.request("POST", "/v1/chat/completions", body, {"X-Request-Id": name})
    response = connection.getresponse()
    response.read(1)
    try:
        yield response
    finally:
        connection.close()


def wait_for_end(engine) -> None:
    wait_for("the engine's end", lambda: engine.child.exit_status() is not None)
    assert engine.child.exit_status() == 0


def terminate_and_be_refused(engine) -> str:
    """The error's message."""
    engine.child.terminate()
    wait_for("a refusal", lambda: engine.chat(max_tokens=1).status == 500)
    return json.loads(engine.chat(max_tokens=1).text())["error"]["message"]


def test_a_termination_cuts_what_runs_and_keeps_the_ledger(tmp_path):
    with running_engine(tmp_path, "--speed", "1") as engine, stream(engine, tokens=30_000, name="cut") as response:
        (entry,) = engine.ledger()
        assert engine.child.exit_status() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
    assert (entry.request_id, entry.finish) == ("cut", "abort")
    assert len(entry.write_ns) == entry.output_tokens > 0


def test_with_a_timeout_streams_end_in_order_while_new_requests_are_refused(tmp_path):
    with running_engine(tmp_path, "--speed", "1", "--shutdown-timeout", "60") as engine:
        with stream(engine, tokens=200, name="drained") as response:
            message = terminate_and_be_refused(engine)
            healthy = engine.get("/health")
            text = response.read().decode()
        wait_for_end(engine)
        entry = engine.ledger()[-1]
    assert message == "cannot schedule new futures after shutdown"
    assert healthy.status == 200
    assert text.endswith("data: [DONE]\n\n")
    assert (entry.request_id, entry.finish, entry.output_tokens) == ("drained", "length", 200)


@pytest.mark.parametrize(("seconds", "signals"), [("1.5", 1), ("600", 2)])
def test_the_end_of_the_timeout_or_a_second_signal_cuts_the_rest(tmp_path, seconds, signals):
    with running_engine(tmp_path, "--speed", "1", "--shutdown-timeout", seconds) as engine:
        with stream(engine, tokens=30_000, name="cut") as response:
            terminate_and_be_refused(engine)
            if signals == 2:
                engine.child.terminate()
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()
        wait_for_end(engine)
        entry = engine.ledger()[-1]
    assert (entry.request_id, entry.finish) == ("cut", "abort")


def test_an_idle_engine_does_not_wait_for_the_timeout(tmp_path):
    with running_engine(tmp_path, "--shutdown-timeout", "600") as engine:
        engine.child.terminate()
        wait_for_end(engine)
