"""The form of Locust's UI changes what it shows and nothing else, and a bad value starts nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.explore.locust_ui import LocustUI, locust_ui

LOAD = {"user_count": 1, "spawn_rate": 1, "host": "http://127.0.0.1:9", "run_time": "", "profile": ""}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustUI]:
    with locust_ui(tmp_path_factory.mktemp("form")) as running:
        yield running


def refusal(ui: LocustUI, **fields: Any) -> str:
    """As the UI shows it; a refused form has started nothing."""
    answer = ui.post("/swarm", LOAD | fields)
    assert answer.status == 200
    assert answer.json()["success"] is False
    assert ui.get("/loadstair/live.json").json()["state"] in ("ready", "stopped")
    return str(answer.json()["message"])


@pytest.mark.parametrize("option", ["html_file", "csv_prefix", "records", "logfile", "web_host", "nonsense"])
def test_an_option_that_the_form_does_not_show_is_refused_by_name(ui: LocustUI, option: str, tmp_path: Path) -> None:
    target = tmp_path / "written"
    assert refusal(ui, **{option: str(target)}) == f"{option}: no option of the form"
    assert not target.exists()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("user_count", 0, "number of users: must be a whole number from 1 to 100000"),
        ("user_count", 100_001, "number of users: must be a whole number from 1 to 100000"),
        ("user_count", "1e3", "number of users: must be a whole number from 1 to 100000"),
        ("user_count", "", "number of users: must be a whole number from 1 to 100000"),
        ("spawn_rate", 0, "ramp up: must be more than 0 users a second"),
        ("spawn_rate", "inf", "ramp up: must be more than 0 users a second"),
        ("run_time", "soon", "run time: must be a time such as 90, 90s, 3m or 1h20m"),
        ("host", "127.0.0.1:8000", "host: should be a URL such as http://127.0.0.1:8000, not '127.0.0.1:8000'"),
        ("host", "http://a b", "host: should be a URL such as http://127.0.0.1:8000, not 'http://a b'"),
        ("host", "http://<b>", "host: should be a URL such as http://127.0.0.1:8000, not 'http://<b>'"),
        ("host", "file:///etc", "host: should be a URL such as http://127.0.0.1:8000, not 'file:///etc'"),
        ("shots", "many", "--shots: 'many' is not a whole number"),
        ("shots", "", "--shots: '' is not a whole number"),
        ("shots", "12", "--shots: must be at most 9"),
        ("limit_ms", "fast", "--limit-ms: 'fast' is not a number"),
        ("size", "huge", "--size: 'huge' is none of small, large"),
        ("warm", "maybe", "--warm: 'maybe' is neither true nor false"),
    ],
)
def test_a_bad_value_is_refused_with_what_would_be_right(ui: LocustUI, field: str, value: Any, says: str) -> None:
    assert refusal(ui, **{field: value}) == says


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        ("shots", "-5", "4"),
        ("warm", "perhaps", "true"),
        ("user_count", "-1", "1"),
        ("spawn_rate", "0", "1"),
        ("run_time", "soon", ""),
        ("host", "http://127.0.0.1:9", "http://127.0.0.1:10"),
    ],
)
def test_a_field_that_stands_twice_is_refused(ui: LocustUI, field: str, bad: str, good: str) -> None:
    before = ui.get("/options").json()
    form = {name: value for name, value in LOAD.items() if name != field}
    for values in ((bad, good), (good, bad)):
        answer = ui.post("/swarm", [*form.items(), *((field, value) for value in values)]).json()
        assert (answer["success"], answer["message"]) == (False, f"{field}: stands more than once in the form")
    assert ui.get("/options").json() == before


def test_a_list_is_sent_as_a_field_for_each_value(ui: LocustUI) -> None:
    assert ui.post("/swarm", [*LOAD.items(), ("lengths", "8"), ("lengths", "16")]).json()["success"] is True
    assert ui.get("/options").json()["lengths"] == [8, 16]
    ui.post("/stop")


def test_every_mistake_is_told_at_once(ui: LocustUI) -> None:
    told = refusal(ui, user_count=0, host="x", shots="y").split("; ")
    assert [message.split(":")[0] for message in told] == ["number of users", "host", "--shots"]


def test_what_the_form_shows_takes_effect_typed(ui: LocustUI) -> None:
    # The UI sends `tp2` as `tp_2`, which stock Locust would drop.
    answer = ui.post("/swarm", LOAD | {"shots": "4", "limit_ms": "2.5", "tp_2": "y", "size": "large", "warm": "false"})
    assert answer.json()["success"] is True
    taken = {"shots": 4, "limit_ms": 2.5, "tp2": "y", "size": "large", "warm": False}
    options = ui.get("/options").json()
    assert {name: options[name] for name in taken} == taken
    ui.post("/stop")
    # A number that was set, and is emptied again: stock Locust answers with an error page.
    assert ui.post("/swarm", LOAD | {"limit_ms": ""}).json()["success"] is True
    assert ui.get("/options").json()["limit_ms"] in (None, "")
    ui.post("/stop")


def test_user_classes_are_not_edited_without_the_picker(ui: LocustUI) -> None:
    answer = ui.request("POST", "/user", body=b'{"user_class_name": "IdleUser", "abstract": true}')
    assert answer.json()["success"] is False


def test_with_the_picker_only_its_own_fields_and_classes_pass(tmp_path: Path) -> None:
    with locust_ui(tmp_path, "--class-picker") as picker:
        assert (
            "no setting of a user class"
            in picker.request("POST", "/user", body=b'{"user_class_name": "IdleUser", "abstract": true}').json()[
                "message"
            ]
        )
        assert picker.request("POST", "/user", body=b'{"user_class_name": "IdleUser", "weight": 2}').status == 201
        assert refusal(picker, user_classes="Nobody") == "user class: 'Nobody' is none of this locustfile's"
        assert refusal(picker, shape_class="Round") == "shape class: 'Round' is none of this locustfile's"
        answer = picker.post("/swarm", LOAD | {"user_classes": "IdleUser", "shape_class": "Default"})
        assert answer.json()["success"] is True
