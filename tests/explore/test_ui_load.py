"""The locustfile by itself under Locust's web UI, with two worker processes and the simulated engine."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadstair.clock import Deadline, sleep_s
from tests.explore.headless import CHAT, Engine, engine, master_port
from tests.explore.locust_ui import LocustUI, locust_ui

pytestmark = pytest.mark.slow

WAIT_S = 20.0
USERS = {"user_count": "4", "spawn_rate": "4"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, server: Engine) -> Iterator[LocustUI]:
    folder = tmp_path_factory.mktemp("ui")
    arguments = ["--host", server.url, "--processes", "2", *master_port()]
    with locust_ui(folder, *arguments, locustfile=CHAT) as running:
        wait_for(lambda: len(running.get("/stats/requests").json()["workers"]) == 2)
        yield running


def wait_for(condition: Callable[[], object]) -> None:
    deadline = Deadline.after_s(WAIT_S)
    while not condition():
        assert not deadline.passed()
        sleep_s(0.1)


def live(ui: LocustUI) -> dict[str, Any]:
    values: dict[str, Any] = ui.get("/loadstair/live.json").json()
    return values


def records(ui: LocustUI) -> list[dict[str, str]]:
    return list(csv.DictReader(ui.get("/loadstair/records.csv").text().splitlines()))


@pytest.fixture
def start(ui: LocustUI) -> Iterator[Callable[..., None]]:
    def swarm(**form: str) -> None:
        answer = ui.post("/swarm", USERS | form).json()
        assert answer["success"], answer

    yield swarm
    ui.post("/stop")
    wait_for(lambda: live(ui)["state"] in ("ready", "stopped"))


def test_the_tokens_of_a_long_answer_count_while_it_is_under_way(ui: LocustUI, start: Callable[..., None]) -> None:
    start(output_tokens="4000", output_tokens_cv="0")  # at about 9 ms each, 36 s
    wait_for(lambda: (live(ui)["now"]["output_tokens_per_s"] or 0) > 100 and live(ui)["now"]["in_flight"] == 4)
    assert live(ui)["now"]["requests_per_s"] == 0
    assert records(ui) == []


def test_what_the_form_changes_takes_effect_in_every_worker(ui: LocustUI, start: Callable[..., None]) -> None:
    start(output_tokens="5", output_tokens_cv="0", endpoint="completions", slo_ttft_ms="5000")
    wait_for(lambda: len(records(ui)) > 20)
    rows = records(ui)
    assert {row["name"] for row in rows} == {"completions"}
    assert {row["output_tokens_asked"] for row in rows} == {"5"}
    assert {row["worker"] for row in rows} == {"worker-0", "worker-1"}
    assert live(ui)["limits"]["ttft_ms"] == 5000.0


def test_a_reset_forgets_records_and_numbers_and_goes_on(ui: LocustUI, start: Callable[..., None]) -> None:
    start(output_tokens="5", output_tokens_cv="0")
    wait_for(lambda: len(records(ui)) > 20)
    before, started_s = {row["request_id"] for row in records(ui)}, live(ui)["started_s"]
    ui.post("/stats/reset")
    assert live(ui)["started_s"] > started_s
    wait_for(lambda: len(records(ui)) > 20)
    assert not before & {row["request_id"] for row in records(ui)}


def test_after_a_stop_the_records_are_complete(ui: LocustUI, server: Engine, start: Callable[..., None]) -> None:
    start(output_tokens="20", output_tokens_cv="0.3")
    wait_for(lambda: len(records(ui)) > 20)
    ui.post("/stop")
    rows = records(ui)
    assert sum(row["outcome"] == "killed" for row in rows) == 4  # each user's last
    ok = [row for row in rows if row["outcome"] == "ok"]
    ledger = server.entries({row["request_id"] for row in ok})
    assert all(int(row["tokens_arrived"]) == ledger[row["request_id"]].output_tokens for row in ok)
    assert not live(ui)["running"]


def test_while_a_test_runs_only_the_number_of_users_changes(
    ui: LocustUI, server: Engine, start: Callable[..., None]
) -> None:
    start(output_tokens="5")
    now = USERS | {"host": server.url, "output_tokens": "5"}
    other_host = ui.post("/swarm", now | {"host": "http://127.0.0.1:9"}).json()
    assert other_host["message"] == "host: cannot change while a test runs: stop it first"
    other_length = ui.post("/swarm", now | {"output_tokens": "50"}).json()
    assert other_length["message"] == "--output-tokens: cannot change while a test runs: stop it first"
    assert live(ui)["host"] == server.url
    # The dialog fills in what stood on the command line; that is no wish, and takes no effect.
    assert ui.post("/swarm", now | {"user_count": "6", "output_tokens": "64"}).json()["success"] is True
    wait_for(lambda: live(ui)["users"] == 6)
    assert ui.post("/swarm", now).json()["success"] is True  # 5 is still what is in force


def test_the_form_is_told_of_this_start_and_not_of_an_earlier_one(tmp_path: Path, server: Engine) -> None:
    hosts = ("http://127.0.0.1:9", "http://127.0.0.1:10", server.url.replace("http", "https"))
    with locust_ui(tmp_path, locustfile=CHAT) as alone:
        told = [alone.post("/swarm", USERS | {"host": host, "model": ""}).json()["message"] for host in hosts]
    assert [host for host, message in zip(hosts, told, strict=True) if f"{host}/v1/models" not in message] == []


def test_a_master_without_workers_says_so_in_the_form(tmp_path: Path, server: Engine) -> None:
    with locust_ui(tmp_path, "--master", *master_port(), locustfile=CHAT) as master:
        answer = master.post("/swarm", USERS | {"host": server.url}).json()
    assert answer["success"] is False
    assert answer["message"].startswith("no worker is connected: start one with --worker")


def test_a_test_that_cannot_start_says_why(ui: LocustUI, server: Engine) -> None:
    nobody = "http://127.0.0.1:9"
    ui.post("/swarm", USERS | {"host": nobody, "model": ""})
    wait_for(lambda: live(ui)["refusal"])
    assert live(ui)["refusal"].endswith("connection refused")
    assert not live(ui)["running"]
    ui.post("/swarm", USERS | {"host": server.url})
    wait_for(lambda: len(records(ui)) > 5)
    assert live(ui)["refusal"] is None
    ui.post("/stop")
