"""A child process is never left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from loadstair.child import Child, log_tail

FOREVER = "import time; print('up', flush=True); time.sleep(1000)"


def wait_for_line(path: Path, text: str) -> None:
    while text not in (path.read_text() if path.exists() else ""):
        os.sched_yield()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_leaving_the_block_stops_the_child_and_what_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    grandchild = textwrap.dedent(f"""
        import subprocess, sys
        process = subprocess.Popen([sys.executable, "-c", {FOREVER!r}])
        print("pid", process.pid, flush=True)
        process.wait()
    """)
    with Child("parent", [sys.executable, "-c", grandchild], log_path=log) as child:
        wait_for_line(log, "up")
        grandchild_pid = int(log.read_text().split()[1])
        assert not gone(child.pid)
    assert gone(child.pid)
    assert gone(grandchild_pid)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
    with Child("stubborn", [sys.executable, "-c", stubborn], log_path=tmp_path / "log", stop_grace_s=0.2) as child:
        wait_for_line(tmp_path / "log", "up")
    assert child.exit_status() == -signal.SIGKILL


def test_a_killed_orchestrator_takes_its_children_along(tmp_path: Path) -> None:
    log = tmp_path / "log"
    orchestrator = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from loadstair.child import Child
        child = Child("c", [sys.executable, "-c", {FOREVER!r}], log_path=Path({str(log)!r}))
        print(child.pid, flush=True)
        time.sleep(1000)
    """)
    with subprocess.Popen([sys.executable, "-c", orchestrator], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child_pid = int(process.stdout.readline())
        wait_for_line(log, "up")
        process.kill()
        process.wait()
    while not gone(child_pid):  # the kernel's signal is sent by then; the child needs a moment to end
        os.sched_yield()


def test_the_exit_status_is_none_while_it_runs_and_then_what_it_was(tmp_path: Path) -> None:
    with Child("quick", [sys.executable, "-c", "raise SystemExit(7)"], log_path=tmp_path / "log") as child:
        while child.exit_status() is None:
            os.sched_yield()
        assert child.exit_status() == 7


def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Child("none", ["no-such-program-anywhere"], log_path=tmp_path / "log")


def test_the_log_tail_is_the_last_lines_without_blank_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n\ntwo\n\nthree\n")
    assert log_tail(log, lines=2) == "two\nthree"


def test_no_log_has_no_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") is None
