"""One visit's load generator: a Locust master and its workers, started, spoken with, and stopped.

The protocol is described in docs/architecture.md; the other end is `loadstair.load.controller`.
"""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from loadstair.child import Child, start_child
from loadstair.clock import Deadline, sleep_s
from loadstair.drive.batches import sample_table
from loadstair.drive.locustfile import locustfile
from loadstair.errors import LoadError
from loadstair.fetch import Answer, FetchError, fetch
from loadstair.plan.model import Load, Workload
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import Counters
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.ports import free_ports

CALL_S: Final = 15.0
STEP_S: Final = 60.0
FLUSH_S: Final = 40.0
STOP_S: Final = 60.0
LOOK_S: Final = 0.05
RECORDS_BYTES_MAX: Final = 4 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLoad:
    """What the load of one visit needs to know."""

    visit: int
    topology: str
    repeat: int
    seed: int
    workload: Workload
    load: Load
    endpoint: Endpoint
    words_per_token: float = 1.0
    calibrate_words: bool = True
    lease_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatus:
    workers: tuple[str, ...]
    workers_lost: tuple[str, ...]
    users: int
    in_flight: int
    in_flight_hold: int
    started_users: int
    counters: Mapping[int, Counters]
    """By step."""
    dropped: int
    """Messages that the workers could not send to the master."""
    cpu_percent: Mapping[str, float]
    """Of each worker, since the status before."""


class LoadSession:
    """Entering starts the processes and waits until the workers are there; leaving stops them all."""

    def __init__(
        self,
        visit_load: VisitLoad,
        *,
        workers: int,
        log_dir: Path,
        ready_timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`log_dir` gets the configuration and the logs; `env` is what the children inherit, by default ours."""
        self._visit_load = visit_load
        self._worker_count = workers
        self._log_dir = log_dir
        self._ready_timeout_s = ready_timeout_s
        self._env = dict(os.environ if env is None else env)
        self._token = secrets.token_hex(24)
        self._children: dict[str, Child] = {}
        self._stack = ExitStack()
        self._url = ""

    @property
    def pids(self) -> dict[str, int]:
        """Of the master and the workers."""
        return {name: child.pid for name, child in self._children.items()}

    @property
    def controller_url(self) -> str:
        """Ends in a slash; only good for who has the token."""
        return self._url

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All at once; the stack then waits for each in turn.
        for child in self._children.values():
            child.terminate()
        self._stack.close()

    def begin_step(self, *, step: int, load: float, users: int, growth_s: float) -> int:
        """When the last worker had switched to the step's warm-up (CLOCK_REALTIME ns)."""
        body = {"step": step, "load": load, "users": users, "growth_s": growth_s}
        return int(self._call("step", body, timeout_s=STEP_S)["since_ns"])

    def set_phase(self, phase: Phase) -> int:
        """When the last worker had switched (CLOCK_REALTIME ns)."""
        return int(self._call("phase", {"phase": str(phase)}, timeout_s=CALL_S)["since_ns"])

    def status(self) -> LoadStatus:
        answer = self._call("status", None, timeout_s=CALL_S)
        return LoadStatus(
            workers=tuple(answer["workers"]),
            workers_lost=tuple(answer["workers_lost"]),
            users=answer["users"],
            in_flight=answer["in_flight"],
            in_flight_hold=answer["in_flight_hold"],
            started_users=answer["started_users"],
            counters=_counters(answer["counters"]),
            dropped=answer["dropped"],
            cpu_percent=answer["cpu_percent"],
        )

    def flush(self) -> tuple[dict[int, Counters], int]:
        """Counters by step, and how many batches never arrived. Afterwards `take_records` has all that ended before."""
        answer = self._call("flush", {}, timeout_s=FLUSH_S)
        return _counters(answer["counters"]), int(answer["sequence_gaps"])

    def take_records(self) -> pa.Table:
        """The records that came since the last call; they are handed over once."""
        return sample_table(self._fetch("records", None, timeout_s=FLUSH_S).body)

    def park_users(self) -> int:
        """From then on (CLOCK_REALTIME ns) no user begins a request."""
        return int(self._call("drain", {}, timeout_s=CALL_S)["since_ns"])

    def drain(self, deadline: Deadline, *, wait: Callable[[float], None] = sleep_s) -> bool:
        """Lets users finish what they began; True if all had ended by the deadline. `wait` is called between looks."""
        self.park_users()
        while self.status().in_flight:
            if deadline.passed():
                return False
            wait(LOOK_S)
        return True

    def stop(self) -> dict[int, Counters]:
        """Kills what is under way (recorded as killed); the records are there to be taken afterwards."""
        return _counters(self._call("stop", {}, timeout_s=STOP_S)["counters"])

    def check_processes(self) -> None:
        """Raises LoadError if the master has ended. Lost workers are in `status`: they invalidate a step, not a run."""
        master = self._children.get("master")
        if master is not None and (status := master.exit_status()) is not None:
            raise LoadError(f"the Locust master ended by itself (exit status {status})", master.log_tail())

    def _start(self, stack: ExitStack) -> None:
        config_path = self._log_dir / f"load-{self._visit_load.visit}.json"
        try:
            config_path.write_text(json.dumps(self._config(), indent=2), encoding="utf-8")
        except OSError as error:
            raise LoadError(f"{config_path}: {error.strerror or error}") from error
        web_port, master_port = free_ports(2)
        self._url = f"http://127.0.0.1:{web_port}/loadstair/"
        env = self._child_env(config_path)
        base = [sys.executable, "-m", "locust", "-f", str(locustfile())]
        commands = {
            "master": [
                *base,
                "--master",
                *("--master-bind-host", "127.0.0.1", "--master-bind-port", str(master_port)),
                *("--web-host", "127.0.0.1", "--web-port", str(web_port)),
            ]
        }
        worker = [*base, "--worker", "--master-host", "127.0.0.1", "--master-port", str(master_port)]
        commands |= {f"locust-worker-{number}": worker for number in range(self._worker_count)}
        for name, command in commands.items():
            log_path = self._log_dir / f"load-{self._visit_load.visit}-{name}.log"
            try:
                child = start_child(stack, name, command, log_path=log_path, env=env, cwd=self._log_dir)
            except OSError as error:
                raise LoadError(f"{name}: cannot be started: {error}") from error
            self._children[name] = child

    def _child_env(self, config_path: Path) -> dict[str, str]:
        """Without the user's LOCUST_* settings: they would change what is measured."""
        env = {name: value for name, value in self._env.items() if not name.startswith("LOCUST_")}
        package_root = str(Path(__file__).resolve().parent.parent.parent)
        path = env.get("PYTHONPATH")
        env["PYTHONPATH"] = f"{package_root}{os.pathsep}{path}" if path else package_root
        env["PYTHONUNBUFFERED"] = "1"
        env["LOADSTAIR_LOAD_CONFIG"] = str(config_path.resolve())
        env["LOADSTAIR_TOKEN"] = self._token
        return env

    def _config(self) -> dict[str, Any]:
        visit_load, endpoint = self._visit_load, self._visit_load.endpoint
        return {
            "base_url": endpoint.url,
            "visit": visit_load.visit,
            "topology": visit_load.topology,
            "repeat": visit_load.repeat,
            "seed": visit_load.seed,
            "workload": visit_load.workload.model_dump(mode="json"),
            "words_per_token": visit_load.words_per_token,
            "calibrate_words": visit_load.calibrate_words,
            "headers": endpoint.headers,
            "api_key_env": endpoint.api_key_env,
            "tls_verify": endpoint.tls_verify,
            "tls_ca": endpoint.tls_ca,
            "request_timeout_s": visit_load.load.request_timeout_s,
            "idle_timeout_s": visit_load.load.idle_timeout_s,
            "connections": visit_load.load.connections,
            "workers": self._worker_count,
            "lease_s": visit_load.lease_s,
        }

    def _wait_until_ready(self) -> None:
        deadline = Deadline.after_s(self._ready_timeout_s)
        while True:
            for name, child in self._children.items():
                if (status := child.exit_status()) is not None:
                    raise LoadError(f"{name}: ended while starting (exit status {status})", child.log_tail())
            with contextlib.suppress(FetchError):
                answer = self._ask("status", None, timeout_s=CALL_S)
                if answer.status == 200 and len(answer.json()["workers"]) == self._worker_count:
                    return
            if deadline.passed():
                raise LoadError(
                    f"the load's {self._worker_count} workers were not ready within {self._ready_timeout_s:g} s",
                    self._children["master"].log_tail(),
                )
            sleep_s(LOOK_S)

    def _call(self, name: str, body: Mapping[str, Any] | None, *, timeout_s: float) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._fetch(name, body, timeout_s=timeout_s).json()
        except ValueError as error:
            raise LoadError(f"the load's controller answered {name} with something that is not JSON") from error
        return answer

    def _fetch(self, name: str, body: Mapping[str, Any] | None, *, timeout_s: float) -> Answer:
        try:
            answer = self._ask(name, body, timeout_s=timeout_s)
        except FetchError as error:
            self.check_processes()
            raise LoadError(f"the load's controller does not answer: {error}", self._log_tail()) from error
        if answer.status != 200:
            message = f"the load's controller answered {name} with {answer.status}: {answer.text()[:200].strip()}"
            raise LoadError(message, self._log_tail())
        return answer

    def _ask(self, name: str, body: Mapping[str, Any] | None, *, timeout_s: float) -> Answer:
        return fetch(
            self._url + name,
            body=None if body is None else json.dumps(body).encode(),
            headers={"X-Loadstair-Token": self._token, "Content-Type": "application/json"},
            timeout_s=timeout_s,
            body_bytes_max=RECORDS_BYTES_MAX,
        )

    def _log_tail(self) -> str | None:
        master = self._children.get("master")
        return None if master is None else master.log_tail()


def _counters(steps: Mapping[str, Mapping[str, int]]) -> dict[int, Counters]:
    return {int(step): Counters(**books) for step, books in steps.items()}
