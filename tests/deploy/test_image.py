"""The Dockerfile, as far as it can be judged without a Docker engine."""

import json
import re
import shlex
from pathlib import PurePosixPath

import pytest

from tests.deploy.compose_file import ROOT, services
from tests.deploy.image import context, copied_from_context, ignore_rules, ignored, instructions


def texts(name: str) -> list[str]:
    return [entry.text for entry in instructions() if entry.name == name]


@pytest.mark.parametrize("source", copied_from_context())
def test_what_is_copied_is_in_the_context(source: str) -> None:
    assert any(PurePosixPath(source) in (path, *path.parents) for path in context())


def test_nothing_else_is_sent_to_the_builder() -> None:
    sent = context()
    assert {path.parts[0] for path in sent} == set(copied_from_context())
    assert not [path for path in sent if "__pycache__" in path.parts or path.suffix == ".pyc"]


@pytest.mark.parametrize(
    ("path", "out"),
    [
        (".git/config", True),
        (".env", True),
        ("reports/run/plan.yaml", True),
        ("tests/cli.py", True),
        ("loadstair/cli.py", False),
        ("loadstair/plan/__pycache__/model.pyc", True),
        ("plans/h100-compose.yaml", False),
    ],
)
def test_what_the_ignore_file_leaves_out(path: str, out: bool) -> None:
    assert ignored(PurePosixPath(path), ignore_rules()) is out


def test_the_base_is_pinned_to_the_python_that_the_package_wants() -> None:
    bases = {text.split()[0] for text in texts("FROM")}
    assert bases == {"python:3.11-slim-bookworm"}
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_requirements_are_a_layer_of_their_own_before_the_package() -> None:
    last_stage = instructions()[[entry.name for entry in instructions()].index("FROM", 1) :]
    steps = [f"{entry.name} {entry.text}" for entry in last_stage]
    requirements = next(index for index, step in enumerate(steps) if "--requirement" in step)
    package = next(index for index, step in enumerate(steps) if "--from=build" in step)
    assert requirements < package
    assert not [step for step in steps[:requirements] if re.match(r"COPY (loadstair|plans|locustfiles)", step)]


def test_it_does_not_run_as_root() -> None:
    (user,) = texts("USER")
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(texts("RUN"))


def test_no_layer_keeps_what_it_downloaded() -> None:
    for text in texts("RUN"):
        assert "apt-get install" not in text or "rm -rf /var/lib/apt/lists/*" in text
        assert "pip install" not in text or "--no-cache-dir" in text


def test_the_locustfile_that_the_image_and_compose_start_is_in_it() -> None:
    (command,) = texts("CMD")
    commands = [json.loads(command)] + [service.words for service in services() if "build" in service.keys]
    started = [words for words in commands if words[0] == "locust"]
    assert len(started) == 3
    assert {words[0] for words in commands} == {"locust", "loadstair"}
    for words in started:
        assert PurePosixPath(words[words.index("-f") + 1]) in context()


def test_the_commands_of_its_comment_name_plans_that_are_in_it() -> None:
    comment = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("#")]
    plans = {word for line in comment for word in shlex.split(line[1:], posix=False) if word.startswith("plans/")}
    assert plans
    assert {PurePosixPath(plan) for plan in plans} <= context()
