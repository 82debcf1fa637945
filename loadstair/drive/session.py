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

from loadstair.child import Child, exit_line, start_child
from loadstair.clock import Deadline, MachineClock, sleep_s
from loadstair.drive.batches import sample_table
from loadstair.drive.environment import locust_env
from loadstair.drive.heartbeat import Heartbeat
from loadstair.drive.locustfile import locustfile
from loadstair.drive.muster import Muster, check_address, wait_for_workers
from loadstair.errors import LoadError
from loadstair.fetch import Answer, FetchError, fetch
from loadstair.locust_process import CONFIG_VARIABLE, SPOOL_VARIABLE, TOKEN_HEADER, TOKEN_VARIABLE
from loadstair.plain import one_line
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.matrix import Burst, BurstKind
from loadstair.plan.model import Load, RemoteWorkers, Workload
from loadstair.samples.look import HoldLatencies, LoadStatus
from loadstair.samples.process import WorkerProcess
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import ClockReading, Counters
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.ports import free_ports, is_taken

CALL_S: Final = 15.0
READY_CALL_S: Final = 2.0
PROCESSES_S: Final = 5.0
STEP_S: Final = 60.0
FLUSH_S: Final = 40.0
STOP_S: Final = 60.0
DYING_S: Final = 1.0
LOOK_S: Final = 0.05
HEARTBEATS_PER_LEASE: Final = 5
STARTS_MAX: Final = 3
RECORDS_BYTES_MAX: Final = 4 * 1024**3
PART_S: Final = 30.0
"""How long records are left with the master: it keeps them in memory."""


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
    arrivals: Arrivals | None = None
    """Of an open loop; None in a closed one."""


class _PortTakenError(LoadError):
    """Somebody else took one of the master's ports after it was found free."""


class LoadSession:
    """Entering starts the processes and waits until the workers are there; leaving stops them all.

    In between, a thread keeps the controller's lease, whatever the orchestrator is busy with.
    """

    clock = MachineClock()

    def __init__(
        self,
        visit_load: VisitLoad,
        *,
        workers: int | RemoteWorkers,
        log_dir: Path,
        ready_timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
        ports: Callable[[int], list[int]] = free_ports,
        part_s: float = PART_S,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`workers`: so many processes of ours, or those that other hosts start; who of them came is said to `tell`.
        `log_dir` gets the configuration and the logs; `env` is what the children inherit, by default ours.
        `ports` finds free ports for the master, and is asked again if somebody else was quicker to use them."""
        self._visit_load = visit_load
        self._remote = workers if isinstance(workers, RemoteWorkers) else None
        self._worker_count = workers.expect if isinstance(workers, RemoteWorkers) else workers
        self._tell = tell
        self._clocks: list[ClockReading] = []
        self._log_dir = log_dir
        self._ready_timeout_s = ready_timeout_s
        self._env = dict(os.environ if env is None else env)
        self._ports = ports
        self._part_s = part_s
        self._part_over = Deadline.after_s(part_s)
        self._heartbeat_s = visit_load.lease_s / HEARTBEATS_PER_LEASE
        self._token = secrets.token_hex(24)
        self._children: dict[str, Child] = {}
        self._stack = ExitStack()
        self._url = ""
        self._master_ports: tuple[int, ...] = ()

    @property
    def pids(self) -> dict[str, int]:
        """Of the master and the workers."""
        return {name: child.pid for name, child in self._children.items()}

    @property
    def workers_wanted(self) -> int:
        """So many are waited for; one may be lost before the first step."""
        return self._worker_count

    @property
    def controller_url(self) -> str:
        """Ends in a slash; only good for who has the token."""
        return self._url

    def __enter__(self) -> Self:
        try:
            self._start_on_free_ports()
            self._stack.enter_context(Heartbeat(self._renew_lease, interval_s=self._heartbeat_s))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin_step(self, *, step: int, load: float, users: int, growth_s: float, burst: Burst | None = None) -> int:
        """When the last worker had switched to the step's warm-up (CLOCK_REALTIME ns).

        `burst`: its users send so many requests, of its lengths, then park; they are the hold's, except in a warm-up.
        """
        self._clocks.clear()
        self._read_clocks()
        body = {"step": step, "load": load, "users": users, "growth_s": growth_s, **_burst_body(burst)}
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
            tokens=answer["tokens"],
            first_tokens=answer["first_tokens"],
            ttft_ns_sum=answer["ttft_ns_sum"],
            latencies=HoldLatencies(**answer["latencies"]),
        )

    def flush(self) -> dict[int, Counters]:
        """Counters by step, of all requests that ended before; `take_records` then has exactly their records."""
        self._read_clocks()
        return _counters(self._call("flush", {}, timeout_s=FLUSH_S)["counters"])

    def clocks(self) -> tuple[ClockReading, ...]:
        """Of remote workers, at the beginning of the step and at every flush since; empty without such workers."""
        return tuple(self._clocks)

    def processes(self) -> tuple[WorkerProcess, ...]:
        """What each worker's process has used so far, as it tells of itself; empty before the first step. May be called
        by another thread than the one that drives."""
        answer = self._call("processes", None, timeout_s=PROCESSES_S)
        return tuple(WorkerProcess(**process) for process in answer["processes"])

    def take_records(self) -> pa.Table:
        """The records that the last `flush` or `stop` counted, without those taken before."""
        self._part_over = Deadline.after_s(self._part_s)
        return sample_table(self._fetch("records", None, timeout_s=FLUSH_S).body)

    def confirm_records(self) -> None:
        """All records taken so far are on disk: the workers need to keep them no longer."""
        self._call("kept", {}, timeout_s=CALL_S)

    def records_due(self) -> bool:
        """Whether none were taken for so long that it is time to."""
        return self._part_over.passed()

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
        """Raises LoadError if the master or every worker has ended. One lost worker of several is in `status`: it
        invalidates steps, it does not end a run."""
        ended = {name: status for name, child in self._children.items() if (status := child.exit_status()) is not None}
        if "master" in ended:
            raise LoadError(f"the Locust master ended by itself: {exit_line(ended['master'])}", self._log_tail())
        if ended and len(ended) == len(self._children) - 1:
            name, status = next(iter(ended.items()))
            raise LoadError(f"every Locust worker ended: {name}: {exit_line(status)}", self._children[name].log_tail())

    def _read_clocks(self) -> None:
        if self._remote is not None:
            answer = self._call("clocks", {}, timeout_s=CALL_S)
            self._clocks += [ClockReading(**reading) for reading in answer["clocks"]]

    def _start_on_free_ports(self) -> None:
        for start in range(1, STARTS_MAX + 1):
            try:
                self._start(self._stack)
                self._wait_until_ready()
                return
            except _PortTakenError:
                if start == STARTS_MAX:
                    raise
                self._stack.close()
                self._children.clear()

    def _renew_lease(self) -> None:
        # A failure is the concern of the next call that needs an answer.
        with contextlib.suppress(FetchError):
            self._ask("lease", None, timeout_s=self._heartbeat_s)

    def _start(self, stack: ExitStack) -> None:
        config_path = self._log_dir / f"load-{self._visit_load.visit}.json"
        try:
            config_path.write_text(json.dumps(self._config(), indent=2), encoding="utf-8")
        except OSError as error:
            raise LoadError(f"{config_path}: {error.strerror or error}") from error
        if self._remote is None:
            web_port, master_port = self._ports(2)
            address = "127.0.0.1"
            self._master_ports = (web_port, master_port)
        else:
            check_address(self._remote)
            (web_port,) = self._master_ports = tuple(self._ports(1))
            address, master_port = self._remote.bind, self._remote.port
        self._url = f"http://127.0.0.1:{web_port}/loadstair/"
        env = self._child_env(config_path)
        base = [sys.executable, "-m", "locust", "-f", str(locustfile())]
        commands = {
            "master": [
                *base,
                "--master",
                *("--master-bind-host", address, "--master-bind-port", str(master_port)),
                *("--web-host", "127.0.0.1", "--web-port", str(web_port)),
            ]
        }
        if self._remote is None:
            worker = [*base, "--worker", "--master-host", "127.0.0.1", "--master-port", str(master_port)]
            commands |= {f"locust-worker-{number}": worker for number in range(self._worker_count)}
        for name, command in commands.items():
            log_path = self._log_dir / f"load-{self._visit_load.visit}-{name}.log"
            try:
                child = start_child(stack, name, command, log_path=log_path, env=env, cwd=self._log_dir)
            except OSError as error:
                raise LoadError(f"{name}: cannot be started: {error}") from error
            self._children[name] = child
        stack.callback(self._terminate_all)

    def _terminate_all(self) -> None:
        """At once; the stack then waits for each in turn."""
        for child in self._children.values():
            child.terminate()

    def _child_env(self, config_path: Path) -> dict[str, str]:
        """Without the openai SDK's own settings, which would send the user's key and account to an endpoint that the
        plan did not give them."""
        key = self._visit_load.endpoint.api_key_env
        own = {name: value for name, value in self._env.items() if name == key or not name.startswith("OPENAI_")}
        env = locust_env(own, kept=key)
        env[CONFIG_VARIABLE] = str(config_path.resolve())
        env[TOKEN_VARIABLE] = self._token
        env[SPOOL_VARIABLE] = str(self._log_dir.resolve())
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
            "connect_timeout_s": visit_load.load.connect_timeout_s,
            "first_byte_timeout_s": visit_load.load.first_byte_timeout_s,
            "request_timeout_s": visit_load.load.request_timeout_s,
            "idle_timeout_s": visit_load.load.idle_timeout_s,
            "connections": visit_load.load.connections,
            "workers": self._worker_count,
            "remote": self._remote is not None,
            "nonce": secrets.token_hex(16),
            "lease_s": visit_load.lease_s,
            "arrivals": None if visit_load.arrivals is None else visit_load.arrivals.to_dict(),
            "max_in_flight": visit_load.load.max_in_flight,
        }

    def _wait_until_ready(self) -> None:
        if self._remote is not None:
            wait_for_workers(self._remote, self._muster, tell=self._tell)
            return
        deadline = Deadline.after_s(self._ready_timeout_s)
        while True:
            self._look_for_ended()
            with contextlib.suppress(FetchError):
                answer = self._ask("status", None, timeout_s=READY_CALL_S)
                if answer.status == 200 and len(answer.json()["workers"]) == self._worker_count:
                    return
            if deadline.passed():
                raise LoadError(
                    f"the load's {self._worker_count} workers were not ready within {self._ready_timeout_s:g} s",
                    self._children["master"].log_tail(),
                )
            sleep_s(LOOK_S)

    def _muster(self) -> Muster | None:
        """Of remote workers; None while the master starts."""
        self._look_for_ended()
        with contextlib.suppress(FetchError):
            answer = self._ask("muster", None, timeout_s=READY_CALL_S)
            if answer.status == 200:
                said = answer.json()
                return Muster(came=tuple(said["came"]), turned_away=tuple(said["turned_away"]))
        return None

    def _look_for_ended(self) -> None:
        for name, child in self._children.items():
            if (status := child.exit_status()) is not None:
                self._report_end(name, child, status)

    def _report_end(self, name: str, child: Child, status: int) -> None:
        """Raises LoadError, unless it is a worker that did as it was told by a master which ends itself."""
        message = f"{name}: ended while starting (exit status {status})"
        if name == "master" and any(map(is_taken, self._master_ports)):
            raise _PortTakenError(message, child.log_tail())
        if name == "master" or status != 0:
            raise LoadError(message, child.log_tail())

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
            deadline = Deadline.after_s(DYING_S)
            while not deadline.passed():  # a process that was killed closes its sockets before it is seen to have ended
                self.check_processes()
                sleep_s(LOOK_S)
            raise LoadError(f"the load's controller does not answer: {error}", self._log_tail()) from error
        if answer.status != 200:
            self.check_processes()  # a dead process explains more than what the controller says of it
            raise LoadError(f"the load's controller refused {name}: {_reason(answer)}", self._log_tail())
        return answer

    def _ask(self, name: str, body: Mapping[str, Any] | None, *, timeout_s: float) -> Answer:
        return fetch(
            self._url + name,
            body=None if body is None else json.dumps(body).encode(),
            headers={TOKEN_HEADER: self._token, "Content-Type": "application/json"},
            timeout_s=timeout_s,
            body_bytes_max=RECORDS_BYTES_MAX,
        )

    def _log_tail(self) -> str | None:
        master = self._children.get("master")
        return None if master is None else master.log_tail()


def _burst_body(burst: Burst | None) -> dict[str, Any]:
    if burst is None:
        return {}
    return {
        "phase": str(Phase.WARMUP if burst.kind is BurstKind.WARMUP else Phase.HOLD),
        "requests_per_user": burst.requests_per_user,
        "input_tokens": burst.input_tokens.model_dump(),
        "output_tokens": burst.output_tokens.model_dump(),
    }


def _counters(steps: Mapping[str, Mapping[str, int]]) -> dict[int, Counters]:
    return {int(step): Counters(**books) for step, books in steps.items()}


def _reason(answer: Answer) -> str:
    """The controller's own words, where it had any."""
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = f"HTTP {answer.status} {answer.text()}"
    return one_line(str(said))
