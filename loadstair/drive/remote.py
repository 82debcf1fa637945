"""A worker host's part: Locust workers for whatever master comes to an address, visit after visit."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadstair.child import Child, exit_line, log_tail, start_child
from loadstair.clock import sleep_s
from loadstair.drive.environment import locust_env
from loadstair.drive.locustfile import locustfile
from loadstair.errors import LoadError, NoMaster, NotNeeded, UsageError
from loadstair.locust_process import (
    CONFIG_VARIABLE,
    IN_MARK,
    REMOTE_VARIABLE,
    SAID,
    SPOOL_VARIABLE,
    SPOOLED_MARK,
    TOKEN_VARIABLE,
)
from loadstair.topology.ports import someone_listens
from loadstair.xdg import base_folder

PORT_DEFAULT: Final = 5557
"""Locust's."""
LOOK_S: Final = 0.5
ABSENT_LOOKS_MAX: Final = 10
"""Workers that nobody let in are ended when there has been no master for so long: it was one that was just ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def master_of(text: str) -> Master:
    """HOST or HOST:PORT. Raises UsageError."""
    host, colon, port = text.partition(":")
    number = int(port) if port.isascii() and port.isdecimal() else PORT_DEFAULT if not colon else 0
    if not host or any(letter.isspace() or letter == "/" for letter in host) or not 1 <= number <= 65535:
        raise UsageError(f"{text}: no address of a master: HOST or HOST:PORT, such as 10.0.0.5:{PORT_DEFAULT}")
    return Master(host=host, port=number)


def worker_command(master: Master) -> list[str]:
    """The locustfile is this host's own, by its path: `-f -` would run whatever code a master sends."""
    return [
        *(sys.executable, "-m", "locust", "-f", str(locustfile()), "--worker"),
        *("--master-host", master.host, "--master-port", str(master.port)),
    ]


def worker_env(env: Mapping[str, str]) -> dict[str, str]:
    """Without what is for workers of an orchestrator on the same machine."""
    cleaned = locust_env(env)
    for name in (CONFIG_VARIABLE, TOKEN_VARIABLE):
        cleaned.pop(name, None)
    return cleaned | {REMOTE_VARIABLE: "1", SPOOL_VARIABLE: str(spool_folder(env))}


def spool_folder(env: Mapping[str, str]) -> Path:
    """Where workers of this host keep what they could not hand over."""
    return base_folder(env, "XDG_STATE_HOME", ".local/state") / "loadstair" / "spool"


def work(master: Master, *, processes: int, once: bool, say: Callable[[str], None]) -> None:
    """Serves visits until interrupted; with `once` until the first master that it worked for has gone.

    Raises LoadError if a master refuses this host, or if a worker ends without having worked.
    """
    env = worker_env(os.environ)
    with tempfile.TemporaryDirectory(prefix="loadstair-worker-", ignore_cleanup_errors=True) as folder:
        while True:
            _wait_for(master, processes, say)
            worked = _serve(master, processes, Path(folder), env, say)
            if worked and once:
                return


def _wait_for(master: Master, processes: int, say: Callable[[str], None]) -> None:
    if someone_listens(master.host, master.port):
        return
    say(f"{processes} worker(s) waiting for a master at {master}")
    while not someone_listens(master.host, master.port):
        sleep_s(LOOK_S)


def _serve(master: Master, processes: int, folder: Path, env: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """From the start of the workers until all of them have ended; whether one worked."""
    with ExitStack() as stack:
        children = []
        for number in range(processes):
            log_path = folder / f"worker-{number}.log"
            log_path.unlink(missing_ok=True)
            try:
                child = start_child(
                    stack, f"worker {number}", worker_command(master), log_path=log_path, env=env, cwd=folder
                )
            except OSError as error:
                raise LoadError(f"worker {number}: cannot be started: {error}") from error
            children.append(child)
        stack.callback(_terminate_all, children)
        return _watch(children, master, say)


def _terminate_all(children: list[Child]) -> None:
    """At once; the stack then waits for each in turn."""
    for child in children:
        child.terminate()


def _watch(children: list[Child], master: Master, say: Callable[[str], None]) -> bool:
    worked: set[str] = set()
    told: set[str] = set()
    surplus = False
    absent = 0
    running = list(children)
    while running:
        if not worked:
            absent = 0 if someone_listens(master.host, master.port) else absent + 1
            if absent > ABSENT_LOOKS_MAX:
                return False
        for child in list(running):
            if child.name not in worked and (line := _let_in_line(child)) is not None:
                worked.add(child.name)
                say(f"{child.name} (pid {child.pid}): {line}")
            status = child.exit_status()
            if status is None:
                continue
            running.remove(child)
            if (kept := _marked(child, SPOOLED_MARK)) is not None:
                say(f"{child.name} (pid {child.pid}): {kept}; `loadstair recover RUN FILE` adds them")
            if status == NotNeeded.exit_code:
                surplus = True
                told |= _say_once(f"not needed: {_last_words(child)}; waiting for the next visit", told, say)
            elif status == NoMaster.exit_code:
                told |= _say_once(_last_words(child), told, say)
            elif child.name not in worked:
                raise LoadError(f"{master}: {_last_words(child) or exit_line(status)}", _tail_unless_said(child))
            elif status < 0:
                say(f"{child.name} (pid {child.pid}): {exit_line(status)}")
        sleep_s(LOOK_S)
    if surplus and not worked:
        while someone_listens(master.host, master.port):
            sleep_s(LOOK_S)
    if worked:
        say(f"the master at {master} has gone")
    return bool(worked)


def _say_once(line: str, told: set[str], say: Callable[[str], None]) -> set[str]:
    if line not in told:
        say(line)
    return {line}


def _let_in_line(child: Child) -> str | None:
    return _marked(child, IN_MARK)


def _marked(child: Child, mark: str) -> str | None:
    return next((line.removeprefix(mark) for line in _lines(child) if line.startswith(mark)), None)


def _last_words(child: Child) -> str:
    """What the worker itself said last; empty where it said nothing."""
    said = [line.removeprefix(SAID) for line in _lines(child) if line.startswith(SAID)]
    return said[-1] if said else ""


def _tail_unless_said(child: Child) -> str | None:
    return None if _last_words(child) else child.log_tail()


def _lines(child: Child) -> list[str]:
    return (log_tail(child.log_path, lines=50) or "").splitlines()
