"""The locustfile by itself, without a UI, against the simulated engine's own account of what it sent."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.explore.headless import (
    MODEL,
    Ended,
    Engine,
    ended,
    engine,
    headless,
    interrupt,
    locust,
    master_port,
    nearest_rank,
    records,
    until_it_has,
)
from tests.explore.locust_ui import ROOT, free_port

pytestmark = pytest.mark.slow

LOAD = ["-u", "12", "-r", "12", "--input-tokens", "60", "--output-tokens", "30", "--only-summary"]
RECORDS = ["--records", "records.csv"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


def exact(run: Ended, folder: Path, server: Engine) -> None:
    """Holds what the master shows against the raw records, and these against the engine's ledger."""
    rows = records(folder / "records.csv")
    ok = [row for row in rows if row["outcome"] == "ok"]
    assert {row["outcome"] for row in rows} <= {"ok", "killed"}
    assert run.streams == (len(ok), 0)
    assert len(ok) > 0
    ledger = server.entries({row["request_id"] for row in ok})
    for row in ok:
        assert int(row["tokens_arrived"]) == int(row["output_tokens"]) == ledger[row["request_id"]].output_tokens
        assert int(row["input_tokens"]) == ledger[row["request_id"]].input_tokens
    assert int(run.table["TTFT"][0]) == len(ok)
    assert int(run.table["ITL"][0]) == sum(len(row["arrivals_since_sent_ns"].split()) - 1 for row in ok)
    for label, column in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("e2e", "e2e_ms")):
        values = [float(row[column]) for row in ok if row[column]]
        n, mean, *percentiles, largest = map(float, run.table[label])
        assert n == len(values)
        assert mean == pytest.approx(sum(values) / len(values), abs=0.01)
        assert largest == pytest.approx(max(values), abs=0.01)
        for shown, quantile in zip(percentiles, (0.5, 0.9, 0.99), strict=True):
            true = nearest_rank(values, quantile)
            assert abs(shown - true) <= 0.01 * true + 0.006  # the histogram's error, and two decimals on screen


def test_one_process_shows_and_keeps_what_the_engine_sent(tmp_path: Path, server: Engine) -> None:
    run = headless(tmp_path, "--host", server.url, "-t", "3s", "--json", *LOAD, *RECORDS)
    assert run.code == 0, run.err
    exact(run, tmp_path, server)
    assert run.stats()["chat"]["num_requests"] == run.streams[0]  # killed ones fire no event


def test_two_worker_processes_add_up(tmp_path: Path, server: Engine) -> None:
    arguments = ["--processes", "2", "-t", "3s", "--json", *master_port(), *LOAD, *RECORDS]
    run = headless(tmp_path, "--host", server.url, *arguments)
    assert run.code == 0, run.err
    exact(run, tmp_path, server)
    assert {row["worker"] for row in records(tmp_path / "records.csv")} == {"worker-0", "worker-1"}
    assert len(json.loads(run.out)) == 1


def test_an_interrupt_of_all_processes_loses_no_record(tmp_path: Path, server: Engine) -> None:
    arguments = ["--processes", "2", *master_port(), *LOAD, *RECORDS]
    with locust(tmp_path, "--headless", "--host", server.url, *arguments) as process:
        until_it_has(tmp_path / "records.csv", 20)
        interrupt(process)
        run = ended(process)
    assert run.code == 0, run.err
    exact(run, tmp_path, server)
    assert sum(row["outcome"] == "killed" for row in records(tmp_path / "records.csv")) == 12  # each user's last
    assert "Traceback" not in run.err


def test_separate_workers_add_up_and_a_lost_ones_numbers_stay(tmp_path: Path, server: Engine) -> None:
    port = str(free_port())
    path = tmp_path / "records.csv"
    master = ["--master", "--expect-workers", "2", "--master-bind-port", port, "--host", server.url, *LOAD, *RECORDS]
    worker = ["--worker", "--master-port", port]
    with (
        locust(tmp_path, "--headless", *master) as process,
        locust(tmp_path, *worker) as lost,
        locust(tmp_path, *worker) as other,
    ):
        until_it_has(path, 30)
        lost.send_signal(signal.SIGKILL)
        lost.wait()
        before = len(records(path))
        until_it_has(path, before + 20)
        interrupt(process)
        run = ended(process)
        other.communicate()
    exact(run, tmp_path, server)
    assert {row["worker"] for row in records(path)} == {"worker-0", "worker-1"}
    assert other.returncode == 0


def test_locusts_reset_after_spawning_leaves_out_what_came_before(tmp_path: Path, server: Engine) -> None:
    """The users come within 2 s; what they do until the last is there belongs to no number and no record."""
    arguments = [*LOAD, "-r", "6", "--reset-stats", "-t", "4s", "--processes", "2", *master_port(), *RECORDS]
    before = server.entries(set())
    run = headless(tmp_path, "--host", server.url, *arguments)
    exact(run, tmp_path, server)
    kept = {row["request_id"] for row in records(tmp_path / "records.csv") if row["outcome"] == "ok"}
    sent = {key: entry.received_ns for key, entry in server.entries(kept).items() if key not in before}
    first_kept_ns = min(sent[key] for key in kept)
    assert any(at_ns < first_kept_ns for key, at_ns in sent.items() if key not in kept)


LISTENER = """
import json
from locust import events
from loadstair.explore.locustfile import register
from loadstair.load.user import ChatUser

register(events)
out = open("heard.jsonl", "w", buffering=1)

def keep(event):
    def listen(**payload):
        out.write(json.dumps({"event": event, **payload}) + chr(10))
    return listen

events.first_token.add_listener(keep("first_token"))
events.tokens.add_listener(keep("tokens"))
events.stream_complete.add_listener(keep("stream_complete"))
"""


def test_a_locustfile_hears_of_each_stream_with_the_kernels_times(tmp_path: Path, server: Engine) -> None:
    locustfile = tmp_path / "listener.py"
    locustfile.write_text(LISTENER)
    arguments = ["-u", "2", "-r", "2", "-t", "2s", *RECORDS]
    headless(tmp_path, "--host", server.url, *arguments, locustfile=locustfile)
    heard = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text().splitlines()]
    by_id = {row["request_id"]: row for row in records(tmp_path / "records.csv")}
    complete = {payload["request_id"]: payload for payload in heard if payload["event"] == "stream_complete"}
    assert set(complete) == set(by_id)
    for payload in heard:
        row = by_id[payload["request_id"]]
        assert payload["name"] == "chat"
        assert payload["sent_ns"] == int(row["sent_ns"])
        match payload["event"]:
            case "first_token":
                assert payload["first_token_ns"] == int(row["first_token_ns"])
                assert f"{payload['ttft_ms']:.6f}" == row["ttft_ms"]
            case "tokens":
                since_ns = [arrival - payload["sent_ns"] for arrival in payload["arrivals_ns"]]
                assert since_ns == list(map(int, row["arrivals_since_sent_ns"].split()))
                assert payload["tokens"] == int(row["tokens_arrived"])
            case "stream_complete":
                assert payload["outcome"] == row["outcome"]
                assert payload["e2e_ms"] is None or f"{payload['e2e_ms']:.6f}" == row["e2e_ms"]
    with_text = {name for name, row in by_id.items() if row["arrivals_since_sent_ns"]}
    for event in ("first_token", "tokens"):
        assert {payload["request_id"] for payload in heard if payload["event"] == event} == with_text


TWO_CLASSES = """
from locust import constant, events
from loadstair.explore.locustfile import register
from loadstair.explore.user import OwnChatUser

register(events)

class Short(OwnChatUser):
    def messages(self, asked):
        return [{"role": "user", "content": "one two three"}]
    def body(self, body):
        return {**body, "max_tokens": 3, "stream": False}

class Paced(OwnChatUser):
    name = "with a pause"
    wait_time = constant(60)

class Clumsy(OwnChatUser):
    def messages(self, asked):
        raise RuntimeError("a mistake in the user's own code")
"""


def test_user_classes_of_ones_own_are_measured_under_their_names(tmp_path: Path, server: Engine) -> None:
    locustfile = tmp_path / "own.py"
    locustfile.write_text(TWO_CLASSES)
    arguments = ["-u", "3", "-r", "3", "-t", "4s", "--output-tokens", "10", "--json", *RECORDS]
    run = headless(tmp_path, "--host", server.url, *arguments, locustfile=locustfile)
    rows = records(tmp_path / "records.csv")
    short = [row for row in rows if row["name"] == "Short" and row["outcome"] == "ok"]
    assert len(short) > 2
    assert {(row["tokens_arrived"], row["output_tokens_asked"]) for row in short} == {("3", "3")}
    assert sum(row["name"] == "with a pause" for row in rows) == 1  # its pause is longer than the test
    assert "Clumsy" not in {row["name"] for row in rows}
    assert (run.streams[1], run.code) == (0, 1)  # no request failed: Locust's exit code is that of an exception
    assert "a mistake in the user's own code" in run.err
    assert set(run.stats()) == {"Short", "with a pause"}


def test_the_example_of_an_own_user_works(tmp_path: Path, server: Engine) -> None:
    own_user = ROOT / "locustfiles" / "own_user.py"
    arguments = ["-u", "4", "-r", "4", "-t", "3s", "--json"]
    run = headless(tmp_path, "--host", server.url, *arguments, locustfile=own_user)
    assert run.code == 0, run.err
    assert run.stats()["Shopper"]["num_requests"] >= 4


def test_two_locustfiles_of_ours_share_their_options(tmp_path: Path, server: Engine) -> None:
    both = f"{ROOT / 'locustfiles' / 'chat.py'},{ROOT / 'locustfiles' / 'own_user.py'}"
    run = headless(
        tmp_path,
        "--host",
        server.url,
        "-u",
        "2",
        "-r",
        "2",
        "-t",
        "2s",
        "--json",
        locustfile=both,  # type: ignore[arg-type]
    )
    assert run.code == 0, run.err
    assert set(run.stats()) == {"chat", "Shopper"}


def test_the_server_s_address_is_that_of_the_openai_variable_where_no_host_is_given(
    tmp_path: Path, server: Engine
) -> None:
    variables = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "sk-very-secret"}
    run = headless(tmp_path, "-u", "1", "-t", "2s", *RECORDS, **variables)
    assert run.streams[0] > 0
    assert "sk-very-secret" not in run.out + run.err + (tmp_path / "records.csv").read_text()


def test_mistakes_on_the_command_line_are_a_line_each_and_exit_code_2(tmp_path: Path) -> None:
    wrong = ["--input-tokens", "0", "--slo-ttft-ms", "soon", "--processes", "2", *master_port()]
    run = headless(tmp_path, *wrong)
    assert run.code == 2
    assert [line.split(": ")[1] for line in run.lines] == ["--input-tokens", "--slo-ttft-ms", "--host"]
    assert "Traceback" not in run.err


def test_records_that_cannot_be_kept_are_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    run = headless(tmp_path, "--host", "http://127.0.0.1:9", "--records", "missing/records.csv")
    assert run.code == 2
    assert run.lines == ["loadstair: --records: missing/records.csv: No such file or directory"]


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
def test_without_a_model_and_a_server_to_ask_the_test_does_not_start(tmp_path: Path, processes: list[str]) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    run = headless(tmp_path, "--host", nobody, "-t", "60s", *processes, *master_port())
    assert run.code == 3
    assert run.refusals == [
        f"--model was not given, and the server could not be asked: {nobody}/v1/models: connection refused"
    ]
    assert "Traceback" not in run.err


def test_a_server_that_is_down_is_seen_as_failures(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    run = headless(tmp_path, "--host", nobody, "--model", "m", "-u", "2", "-r", "2", "-t", "2s", "--json")
    assert run.code == 1  # Locust's own for a test with failures
    assert run.streams[0] == 0
    assert run.stats()["chat"]["num_failures"] == run.streams[1] > 2  # the users went on
    assert "refused: " in run.err
    assert "Traceback" not in run.err


def test_a_wrong_model_is_seen_as_failures(tmp_path: Path, server: Engine) -> None:
    run = headless(tmp_path, "--host", server.url, "--model", "nobody/knows", "-u", "1", "-t", "2s", "--json")
    assert run.streams[1] > 1
    assert "http_error: HTTP 404" in run.err


def test_a_server_that_dies_is_seen_as_failures_and_the_users_go_on(tmp_path: Path) -> None:
    arguments = ["--headless", "--model", MODEL, *LOAD, "--json", *RECORDS]
    with engine(tmp_path) as dying, locust(tmp_path, "--host", dying.url, *arguments) as process:
        until_it_has(tmp_path / "records.csv", 20)
        dying.process.kill()
        dying.process.wait()
        seen = len(records(tmp_path / "records.csv"))
        until_it_has(tmp_path / "records.csv", seen + 40)  # 12 users were under way, so some have sent another
        interrupt(process)
        run = ended(process)
    outcomes = {row["outcome"] for row in records(tmp_path / "records.csv")}
    assert {"ok", "disconnected", "refused"} <= outcomes
    assert run.stats()["chat"]["num_failures"] == run.streams[1]
    assert "Traceback" not in run.err
