"""The native paced server as a child process: a ground truth that keeps its timetable where Python's could not."""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from loadstair.calibrate.compiler import built
from loadstair.child import Child, exit_line, log_tail, start_child
from loadstair.clock import Deadline, sleep_s
from loadstair.errors import LoadstairError
from loadstair.fetch import FetchError, fetch

SOURCE: Final = "paced_server.c"
START_S_MAX: Final = 10.0
LOOK_S: Final = 0.005
ASK_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of one kind of time. Percentiles are at most 0.05 % off; None where there was nothing to count."""

    n: int
    sum_ns: int
    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    max_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the server did since it was reset, or started."""

    requests: int
    """That were answered to their end."""
    tokens: int
    """That were sent, each by its own system call; the time of each is taken right before it."""
    held_up: int
    """Tokens that were due while the client did not take what had been sent before: not in `late`."""
    streams: int
    """Under way now."""
    cpu_s: float
    ttft: Spread
    """From the request completely read to its first token's send."""
    itl: Spread
    """Between the sends of two tokens of a stream."""
    late: Spread
    """From when a token was due to its send: the server's own fault. Without a gap, of first tokens alone."""


def can_run() -> bool:
    """Whether this machine can compile and run the server. Raises LoadstairError when compiling fails."""
    return built(SOURCE) is not None


class PacedServer:
    """Streams whose token k is due at (request read) + ttft + k × gap, on a loopback port of its own.

    Entered, it listens at `url` (an origin, without /v1); any model name will do. Leaving stops it, and then its
    ledger is complete.
    """

    def __init__(
        self,
        *,
        ttft_ms: float = 50.0,
        gap_ms: float = 20.0,
        ttft_cv: float = 0.0,
        seed: int = 1,
        chunk_bytes: int = 0,
        ledger: Path | None = None,
    ) -> None:
        """`gap_ms` 0: as fast as the sockets take it. `ttft_cv`: the TTFTs' coefficient of variation (lognormal).
        `chunk_bytes`: the least length of a token's event; 0 is vLLM's own, about 200."""
        self._options = {
            "--ttft-ms": ttft_ms,
            "--gap-ms": gap_ms,
            "--ttft-cv": ttft_cv,
            "--seed": seed,
            "--chunk-bytes": chunk_bytes,
            **({} if ledger is None else {"--ledger": ledger}),
        }
        self._stack = contextlib.ExitStack()
        self._child: Child | None = None
        self._url = ""

    @property
    def url(self) -> str:
        return self._url

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def truth(self) -> Truth:
        """Raises LoadstairError when the server does not answer."""
        values: Mapping[str, Any] = json.loads(self._ask("/truth", body=None))
        spreads = {name: Spread(**values[name]) for name in ("ttft", "itl", "late")}
        return Truth(**{**values, **spreads})

    def reset(self) -> None:
        """Forgets what was sent; streams under way go on, and what they still send counts."""
        self._ask("/truth/reset", body=b"")

    def _ask(self, path: str, *, body: bytes | None) -> bytes:
        try:
            return fetch(self._url + path, body=body, timeout_s=ASK_S_MAX).body
        except FetchError as error:
            raise LoadstairError(f"the paced server does not answer: {error}") from error

    def __enter__(self) -> Self:
        """Raises LoadstairError where it cannot be compiled or does not start."""
        program = built(SOURCE)
        if program is None:
            raise LoadstairError("the paced server needs Linux and a C compiler (cc, gcc or clang)")
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadstair-paced-")))
            words = [str(word) for option in self._options.items() for word in option]
            log = folder / "log"
            try:
                self._child = start_child(stack, "the paced server", [str(program), *words], log_path=log)
            except OSError as error:
                raise LoadstairError(f"{program}: cannot be started: {error.strerror}") from error
            self._url = f"http://127.0.0.1:{_port(self._child, log)}"
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _port(child: Child, log: Path) -> int:
    deadline = Deadline.after_s(START_S_MAX)
    while not deadline.passed():
        words = log.read_text(encoding="utf-8").split("\n")
        if len(words) > 1 and words[0].startswith("port "):
            return int(words[0].removeprefix("port "))
        status = child.exit_status()
        if status is not None:
            raise LoadstairError(f"the paced server did not start: {log_tail(log) or exit_line(status)}")
        sleep_s(LOOK_S)
    raise LoadstairError(f"the paced server did not listen within {START_S_MAX:g} s")
