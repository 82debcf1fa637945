"""Runs `loadstair` as a user does, in a process of its own, and sees what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import yaml

from loadstair.clock import Deadline, sleep_s

MARK = "LOADSTAIR_TEST_MARK"
LIMIT_S = 180


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    left_running: list[str]
    """Command lines of processes that the command started and that outlived it."""

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def loadstair(*arguments: str | Path, cwd: Path | None = None) -> Ended:
    with started(*arguments, cwd=cwd) as process:
        return end_of(process)


@contextmanager
def started(*arguments: str | Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command that the test may signal; whatever of it is left at the end is killed."""
    mark = uuid.uuid4().hex
    env = os.environ | {MARK: mark, "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "loadstair", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        process.mark = mark  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            for left in marked(mark):
                left.kill()


def end_of(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=LIMIT_S)
    left = [" ".join(command_of(other)) for other in marked(process.mark)]  # type: ignore[attr-defined]
    return Ended(process.returncode, out, err, left)


def one_line(ended: Ended, code: int, *words: str) -> None:
    """The command ended with this code and one error line that has these words, and left nothing running."""
    assert ended.code == code, ended.err
    assert len(ended.error_lines) == 1, ended.err
    for word in words:
        assert word in ended.error_lines[0]
    assert "Traceback" not in ended.err
    assert ended.left_running == []


def marked(mark: str) -> list[psutil.Process]:
    """Every process that inherited the mark, whoever its parent is now; zombies have no environment any more."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def command_of(process: psutil.Process) -> list[str]:
    """Empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie too
        return []


def workers_of(mark: str) -> list[psutil.Process]:
    return [process for process in marked(mark) if "--worker" in command_of(process)]


def write_plan(path: Path, topologies: Sequence[dict[str, Any]], **changes: Any) -> Path:
    """A short plan for Qwen2.5-32B; `changes` replace top-level keys, `load` is merged."""
    plan: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "workload": {
            "model": "Qwen/Qwen2.5-32B-Instruct",
            "input_tokens": {"mean": 64, "cv": 0.2},
            "output_tokens": {"mean": 12, "cv": 0.3},
        },
        "topologies": list(topologies),
        **{key: value for key, value in changes.items() if key != "load"},
    }
    load = {"steps": [2, 8], "warmup_s": 1, "hold_s": 3, "cooldown_s": 0} | changes.get("load", {})
    plan["load"] = {"warmup_s_max": load["warmup_s"], **load}  # without: looking takes 3 s a step
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def simulated(name: str, *tensor_parallel: int) -> dict[str, Any]:
    """Simulated engines on four H100 NVL, behind nginx where there are several."""
    topology: dict[str, Any] = {
        "name": name,
        "kind": "simulated",
        "gpus": {"type": "h100-nvl", "count": 4},
        "engines": [{"tp": tp} for tp in tensor_parallel],
    }
    return topology | ({"balancer": {"kind": "nginx"}} if len(tensor_parallel) > 1 else {})


def run_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def wait_for(what: str, is_so: Callable[[], object]) -> None:
    deadline = Deadline.after_s(LIMIT_S)
    while not is_so():
        assert not deadline.passed(), f"never: {what}"
        sleep_s(0.05)


TOO_BUSY: Final = {"generator.dispatch_lag", "generator.saturated", "simserver.late"}


def skip_if_too_busy(out: Path) -> None:
    """Where this machine could not send or serve in time, steps are invalid and taken again for that reason as well:
    such a run says nothing of the loss that a test is about."""
    summary = json.loads((run_folder(out) / "summary.json").read_text(encoding="utf-8"))
    steps = [step for topology in summary["topologies"].values() for step in topology["steps"]]
    bursts = [test for topology in (summary.get("matrix") or {}).values() for test in topology["tests"]]
    reasons = {reason["id"] for one in (*steps, *bursts) for reason in one["reasons"]}
    if reasons & TOO_BUSY:
        pytest.skip(f"this machine was too busy: {', '.join(sorted(reasons & TOO_BUSY))}")


def steps_on_disk(out: Path) -> int:
    """Of all runs in this folder."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*/run.json")]
    return sum(len(visit["steps"]) for record in records for visit in record["visits"])


@contextmanager
def mounted_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of so many bytes (`160k`); skips the test where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """While the block runs, a disk of `mounted_disk` that nobody has open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
