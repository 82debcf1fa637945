"""A child process that cannot be left behind.

Each child leads its own session, so a Ctrl-C at the terminal reaches the orchestrator alone, which then stops its
children in order. On Linux `setpriv --pdeathsig` makes the kernel end a child whose orchestrator was killed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from loadstair.clock import Deadline, sleep_s
from loadstair.errors import TopologyError

GROUP_LOOK_S = 0.02
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 64 * 1024


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str | None:
    """The last lines of a log; None if there is no log or it is empty."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(kept) if kept else None


class Child:
    """A started process; leaving the `with` block stops it and everything it started.

    Raises OSError (FileNotFoundError, PermissionError) from the constructor when the program cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_grace_s: float = 5.0,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log_path = log_path
        self._stop_grace_s = stop_grace_s
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(command[0])
        guard = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_status(self) -> int | None:
        """None while it runs; negative for a signal, as subprocess has it."""
        return self._process.poll()

    def log_tail(self) -> str | None:
        return log_tail(self.log_path)

    def terminate(self) -> None:
        """SIGTERM to the whole session, without waiting."""
        self._signal_group(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM to the whole session, SIGKILL to what is left after the grace time. Can be called twice."""
        deadline = Deadline.after_s(self._stop_grace_s)
        self.terminate()
        try:
            self._process.wait(timeout=self._stop_grace_s)
            while self._group_lives() and not deadline.passed():
                sleep_s(GROUP_LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def _group_lives(self) -> bool:
        """Whether anything that the child started is left; also true of zombies that nobody has waited for yet."""
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def exit_line(status: int) -> str:
    """An exit status in words; negative means a signal, as subprocess has it."""
    if status >= 0:
        return f"it exited with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"


def start_child(
    stack: contextlib.ExitStack,
    name: str,
    command: Sequence[str],
    *,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """A child that `stack` stops, even if a signal comes while it is being started.

    Raises OSError if it cannot be started.
    """
    with _signals_deferred():
        child = Child(name, command, log_path=log_path, env=env, cwd=cwd)
        _stop_at_exit(stack, child)
    return child


def _stop_at_exit(stack: contextlib.ExitStack, child: Child) -> None:
    """A failure to stop it is noted on the error that closes the stack, and never takes its place."""

    def stop(_kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            child.stop()
        except OSError as failure:
            line = f"{child.name} (pid {child.pid}) could not be stopped: {failure}"
            if error is None:
                raise TopologyError(line) from failure
            error.add_note(line)

    stack.push(stop)


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """SIGINT and SIGTERM take effect when the block ends.

    By their Python handlers, not by a signal mask: a mask would be inherited by what is started in the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread runs handlers
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in handlers:
            signal.signal(number, lambda received, _frame: came.append(received))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received in came:
            signal.raise_signal(received)
