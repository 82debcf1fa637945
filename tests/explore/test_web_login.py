"""`--web-login` works with nothing but a password in the environment."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadstair.explore.web.login import PASSWORD_VARIABLE, PLACES_MAX, WAIT_NS, Door
from loadstair.fetch import fetch
from tests.cli import MARK, marked
from tests.explore.locust_ui import FIXED_BOARD, ROOT, LocustUI, free_port, locust_ui

PASSWORD = "correct horse – ü"
OURS = ["", "live.json", "records.csv", "summary.csv", "assets/live.js"]
PAGES = ["/", "/stats/requests", *(f"/loadstair/{name}" for name in OURS)]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustUI]:
    variables = {PASSWORD_VARIABLE: PASSWORD}
    with locust_ui(tmp_path_factory.mktemp("login"), "--web-login", base_path="/lt", **variables) as running:
        yield running


def test_without_a_session_every_page_leads_to_the_login(ui: LocustUI) -> None:
    for path in PAGES:
        answer = ui.get(path)
        assert answer.status == 302, path
        assert answer.headers["location"].startswith("/lt/login?")


def test_a_form_without_a_session_changes_nothing(ui: LocustUI) -> None:
    form = {"user_count": 1, "spawn_rate": 1, "shots": 7}
    assert ui.post("/swarm", form).status == 302
    assert fetch(f"http://127.0.0.1:{ui.port}/options", timeout_s=10).json()["shots"] == 3


def test_a_right_password_opens_and_a_wrong_one_does_not(ui: LocustUI) -> None:
    opened = ui.post("/loadstair/login", {"password": PASSWORD})
    assert (opened.status, opened.headers["location"]) == (303, "/lt/")
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    for path in PAGES:
        assert ui.get(path, Cookie=cookie.split(";")[0]).status == 200, path
    wrong = ui.post("/loadstair/login", {"password": "wrong"})
    assert (wrong.status, wrong.headers["location"]) == (303, "/lt/login")
    shut = wrong.headers["set-cookie"].split(";")[0]
    assert "Wrong password" in ui.get("/login", Cookie=shut).text()
    assert ui.get("/loadstair/live.json", Cookie=shut).status == 302


def test_a_cookie_that_was_altered_opens_nothing(ui: LocustUI) -> None:
    forged = "loadstair_session=eyJfdXNlcl9pZCI6ImxvYWRzdGFpciJ9.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb"
    assert ui.get("/loadstair/live.json", Cookie=forged).status == 302


def test_the_password_stands_in_no_log(ui: LocustUI) -> None:
    assert PASSWORD not in ui.log()


def test_after_a_wrong_guess_no_other_is_looked_at_for_a_while() -> None:
    now_ns = 0
    door = Door("right", clock_ns=lambda: now_ns)
    assert door.error("wrong", "10.0.0.1") == "Wrong password"
    now_ns = WAIT_NS - 1
    assert door.error("right", "10.0.0.1") is not None
    now_ns = WAIT_NS
    assert door.error("right", "10.0.0.1") is None


def test_whoever_guesses_keeps_nobody_else_out() -> None:
    door = Door("right", clock_ns=lambda: 0)
    for guesser in ("10.0.0.1", "fd00:0:0:1::5"):
        assert door.error("wrong", guesser) == "Wrong password"
    for guesser in ("10.0.0.1", "fd00:0:0:1::5", "fd00:0:0:1:ffff::6"):  # the last: of the same /64
        assert door.error("right", guesser) is not None, guesser
    for other in ("10.0.0.2", "fd00:0:0:2::5", "::ffff:10.0.0.1", "::ffff:10.0.0.2"):
        assert door.error("right", other) is None, other


def test_guesses_from_everywhere_are_bounded_together_and_forgotten_in_time() -> None:
    now_ns = 0
    door = Door("right", clock_ns=lambda: now_ns)
    guesses = [door.error("wrong", f"10.0.{place // 256}.{place % 256}") for place in range(PLACES_MAX + 9)]
    assert guesses.count("Wrong password") == PLACES_MAX
    now_ns = WAIT_NS
    assert door.error("right", "10.9.9.9") is None


def test_a_guess_from_elsewhere_leaves_the_login_open(ui: LocustUI) -> None:
    ui.post("/loadstair/login", {"password": "wrong"}, source="127.0.0.2")
    assert ui.post("/loadstair/login", {"password": PASSWORD}, source="127.0.0.3").headers["location"] == "/lt/"


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
def test_a_login_without_a_password_ends_with_one_line_and_leaves_nothing(tmp_path: Path, processes: list[str]) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(FIXED_BOARD), "--web-login", "--web-port", str(free_port())]
    command += ["--master-bind-port", str(free_port()), *processes]
    mark = uuid.uuid4().hex
    env = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    env |= {"PYTHONPATH": str(ROOT), MARK: mark}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    psutil.wait_procs(marked(mark), timeout=10)
    assert marked(mark) == []
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert PASSWORD_VARIABLE in error
    assert "Traceback" not in done.stderr


def test_a_locustfiles_own_login_is_left_alone(tmp_path: Path) -> None:
    with locust_ui(tmp_path, "--web-login", OWN_LOGIN="1") as ui:
        assert "/mine" in ui.get("/login").text()
        assert ui.post("/loadstair/login", {"password": "x"}).status == 404
        assert ui.get("/loadstair/").status == 302
