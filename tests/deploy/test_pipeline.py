"""The pipeline examples of docs/: they are what their CI reads, and their shell does what docs/pipeline.md says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadstair.plan.model import ExternalTopology
from loadstair.plan.parse import read_plan
from tests.cli import loadstair
from tests.deploy.compose_file import ROOT
from tests.simserver.engine_process import RunningEngine, running_engine

EXAMPLES = ROOT / "docs/examples"
PLAN = EXAMPLES / "ci-staging.yaml"
SECRET = "STAGING_API_KEY"


def github_job() -> dict[str, Any]:
    # BaseLoader: YAML 1.1 would read the key `on` as true.
    workflow = yaml.load((EXAMPLES / "github-actions.yaml").read_text(), yaml.BaseLoader)
    job: dict[str, Any] = workflow["jobs"]["load-gate"]
    return job


def gitlab_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((EXAMPLES / "gitlab-ci.yaml").read_text())["load-gate"]
    return job


def github_step(name: str) -> dict[str, Any]:
    (step,) = (step for step in github_job()["steps"] if step.get("name") == name)
    found: dict[str, Any] = step
    return found


def scripts() -> dict[str, str]:
    return {"github": github_step("Measure")["run"], "gitlab": "\n".join(gitlab_job()["script"])}


@pytest.mark.parametrize("which", scripts())
def test_the_shell_of_an_example_is_shell(which: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", scripts()[which]], timeout=20).returncode == 0


@pytest.mark.parametrize("which", scripts())
def test_the_command_of_an_example_is_one_that_loadstair_knows(which: str) -> None:
    (line,) = re.findall(r"\.venv/bin/loadstair (run .*?)(?:;|$)", scripts()[which], re.MULTILINE)
    options = {word for word in shlex.split(line) if word.startswith("--")}
    known = loadstair("run", "--help").out
    assert options == {"--set", "--out", "--quiet"}
    assert all(option in known for option in options)


def test_the_plan_of_the_examples_is_a_plan_whose_key_comes_from_the_environment() -> None:
    plan = read_plan(PLAN, ["topologies[0].url=https://staging.example/v1"])
    (topology,) = plan.topologies
    assert isinstance(topology, ExternalTopology)
    assert (topology.url, topology.api_key_env) == ("https://staging.example/v1", SECRET)
    assert plan.thresholds
    named = {github_step("Measure")["env"]["PLAN"], gitlab_job()["variables"]["PLAN"]}
    assert named == {PLAN.relative_to(ROOT).as_posix()}


def test_the_plan_to_try_it_with_needs_no_endpoint() -> None:
    plan = read_plan(ROOT / "plans/ci-smoke.yaml", [])
    assert [topology.kind for topology in plan.topologies] == ["simulated"]
    assert plan.thresholds
    assert "scripts/run_plan.sh plans/ci-smoke.yaml" in (ROOT / "docs/pipeline.md").read_text(encoding="utf-8")


def test_the_secret_is_the_pipelines() -> None:
    assert github_step("Measure")["env"][SECRET] == "${{ secrets.STAGING_API_KEY }}"
    assert SECRET not in gitlab_job()["variables"]


def test_the_report_is_kept_whatever_happened() -> None:
    assert {github_step(name)["if"] for name in ("Publish the verdicts", "Keep the report")} == {"always()"}
    assert gitlab_job()["artifacts"]["when"] == "always"
    assert gitlab_job()["artifacts"]["reports"]["junit"] == github_step("Publish the verdicts")["with"]["report_paths"]


def test_what_is_no_verdict_on_the_change_is_tried_again() -> None:
    assert gitlab_job()["retry"]["exit_codes"] == [3, 4]
    assert gitlab_job()["allow_failure"]["exit_codes"] == [4]  # 99 stays red


@pytest.mark.parametrize(
    ("answers", "code", "calls"), [("0", 0, 1), ("99", 99, 1), ("3", 3, 1), ("4 0", 0, 2), ("4 4", 4, 2)]
)
def test_the_github_step_tells_the_exit_codes_apart(tmp_path: Path, answers: str, code: int, calls: int) -> None:
    """With a `loadstair` that only answers: what is tested here is the step's own shell."""
    program = tmp_path / ".venv/bin/loadstair"
    program.parent.mkdir(parents=True)
    (tmp_path / "answers").write_text("\n".join(answers.split()) + "\n")
    program.write_text('#!/bin/sh\necho call >> calls\nexit "$(sed -n "$(wc -l < calls)p" answers)"\n')
    program.chmod(0o755)
    ended = subprocess.run(
        ["bash", "-e", "-c", scripts()["github"]],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PLAN": "p", "STAGING_URL": "u"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == code, ended.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == calls
    assert ("::error::" in ended.stdout) == (code != 0)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[RunningEngine]:
    with running_engine(tmp_path, "--gpu", "h100-sxm", "--speed", "1") as engine:
        yield engine


def checkout(folder: Path, *changes: tuple[str, str]) -> Path:
    """A place where the examples' relative paths lead to this environment, and to a plan that is short."""
    (folder / ".venv/bin").mkdir(parents=True)
    program = folder / ".venv/bin/loadstair"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m loadstair "$@"\n')
    program.chmod(0o755)
    text = PLAN.read_text()
    shorter = (
        ("steps: [1, 8, 32]", "steps: [8]"),
        ("load=32", "load=8"),
        (">= 600", ">= 100"),
        ("hold_s: 30", "hold_s: 6"),
    )
    for old, new in (*shorter, *changes):
        assert old in text
        text = text.replace(old, new)
    assert "load=32" not in text
    (folder / "docs/examples").mkdir(parents=True)
    (folder / "docs/examples/ci-staging.yaml").write_text(text)
    return folder


def run_step(script: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """On a busy machine a measurement may be invalid, which GitLab would repeat too."""
    for _ in range(2):
        ended = run_once(script, folder, url)
        if ended.returncode != 4:
            break
        shutil.rmtree(folder / "gate")
    return ended


def run_once(script: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PLAN": "docs/examples/ci-staging.yaml", "STAGING_URL": url, SECRET: "secret-word"}
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=170
    )


def cases(folder: Path) -> dict[str, str | None]:
    """By name, what a case of the last run's junit.xml ended with: None, `failure` or `error`."""
    path = sorted(folder.glob("gate/*/junit.xml"))[-1]
    return {case.attrib["name"]: next((child.tag for child in case), None) for case in ET.parse(path).iter("testcase")}


@pytest.mark.slow
@pytest.mark.parametrize("which", scripts())
def test_an_endpoint_that_is_fast_enough_passes_the_gate(which: str, tmp_path: Path, staging: RunningEngine) -> None:
    ended = run_step(scripts()[which], checkout(tmp_path / "there"), staging.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "::error::" not in ended.stdout
    assert set(cases(tmp_path / "there").values()) == {None}
    assert list((tmp_path / "there").glob("gate/*/report.html"))
    files = [path for path in (tmp_path / "there/gate").rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-word" in path.read_bytes()]


@pytest.mark.slow
def test_one_that_is_too_slow_fails_it_and_says_by_how_much(tmp_path: Path, staging: RunningEngine) -> None:
    folder = checkout(tmp_path / "there", ("ttft_ms.p90 <= 400", "ttft_ms.p90 <= 2"))
    ended = run_step(scripts()["github"], folder, staging.url)
    assert ended.returncode == 99
    assert "::error::A threshold failed" in ended.stdout
    line, last = ended.stderr.splitlines()[-2:]
    assert line.startswith("error: threshold failed: topologies.staging.steps[load=8].ttft_ms.p90 <= 2: measured ")
    assert last.startswith("report: ")
    assert last.endswith("/report.html")
    failed = [name for name, end in cases(folder).items() if end == "failure"]
    assert failed == ["topologies.staging.steps[load=8].ttft_ms.p90 <= 2"]


@pytest.mark.slow
def test_an_endpoint_that_is_not_there_is_infrastructure(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "there", ("ready_timeout_s: 300", "ready_timeout_s: 1"))
    ended = run_step(scripts()["github"], folder, "http://127.0.0.1:9")
    assert ended.returncode == 3
    assert "infrastructure" in ended.stdout
