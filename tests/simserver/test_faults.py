"""Faults on request: each is what a client would meet in the wild."""

import pytest

from loadstair.clock import Deadline, sleep_s
from loadstair.simserver.faults import DieAt, Status, parse_fault
from loadstair.simserver.main import DIED_STATUS
from tests.simserver.engine_process import events, running_engine


def test_faults_are_read_from_the_command_line():
    assert parse_fault("die-at=2.5") == DieAt(2.5)
    assert parse_fault("status=429") == Status(429)


@pytest.mark.parametrize("text", ["", "die-at", "die-at=soon", "status=404", "html=1", "explode"])
def test_anything_else_is_no_fault(text):
    with pytest.raises(ValueError, match="is no fault; one of die-at=SECONDS"):
        parse_fault(text)


@pytest.mark.parametrize("status", [429, 500])
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
