"""What a user class of one's own may raise."""

from pathlib import Path

import pytest

from tests.explore.headless import headless, records
from tests.simserver.engine_process import MODEL, running_engine

LOCUSTFILE = """
from locust import events
from locust.exception import RescheduleTask, StopUser
from loadstair.explore.locustfile import register
from loadstair.explore.user import OwnChatUser

register(events)

class Quitter(OwnChatUser):
    calls = 0
    def messages(self, asked):
        Quitter.calls += 1
        if Quitter.calls == 3:
            raise StopUser
        return None

class Skipper(OwnChatUser):
    calls = 0
    def messages(self, asked):
        Skipper.calls += 1
        if Skipper.calls == 2:
            raise RescheduleTask
        return None

@events.user_error.add_listener
def tell_error(exception, **_):
    print("error:", repr(exception))

@events.test_stop.add_listener
def tell(environment, **_):
    print("quitter:", Quitter.calls)
"""


@pytest.mark.slow
def test_a_user_can_end_itself_and_skip_a_request_without_an_error(tmp_path: Path) -> None:
    locustfile = tmp_path / "own.py"
    locustfile.write_text(LOCUSTFILE)
    with running_engine(tmp_path, "--speed", "4") as engine:
        arguments = ["-u", "2", "-r", "2", "-t", "5s", "--model", MODEL, "--output-tokens", "4", "--records", "r.csv"]
        run = headless(tmp_path, "--host", engine.url, *arguments, locustfile=locustfile)
    names = [row["name"] for row in records(tmp_path / "r.csv")]
    assert "quitter: 3" in run.out  # it was not asked again
    assert names.count("Quitter") == 2  # the third request ended it
    assert names.count("Skipper") > 1  # it went on after the one that was skipped
    assert "error:" not in run.out
