"""Workers that somebody else starts: who is let in, who is not, and what both ends say of it. All on this machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import loadstair
from loadstair.clock import sleep_s
from loadstair.drive.muster import Muster, check_address, wait_for_workers
from loadstair.drive.remote import Master, master_of, worker_command, worker_env
from loadstair.drive.session import LoadSession
from loadstair.drive.staircase import climb, in_order
from loadstair.errors import LoadError, UsageError
from loadstair.load.identity import differences, identity
from loadstair.plan.model import RemoteWorkers
from loadstair.telemetry.sampler import Sampler
from loadstair.telemetry.workers_elsewhere import WorkersElsewhere
from loadstair.topology.ports import free_ports
from tests.drive.test_hosts import ENV, started
from tests.drive.test_session import LOAD, Notes, visit_load, wait_until

PACKAGE = Path(loadstair.__file__).parent


def remote(expect: int = 1, wait_s: float = 60.0) -> RemoteWorkers:
    return RemoteWorkers(expect=expect, bind="127.0.0.1", port=free_ports(1)[0], wait_s=wait_s)


def worker(workers: RemoteWorkers, *options: str) -> list[str]:
    return [sys.executable, "-m", "loadstair", "worker", f"127.0.0.1:{workers.port}", *options]


def test_an_address_has_a_host_and_perhaps_a_port() -> None:
    assert master_of("10.0.0.5") == Master(host="10.0.0.5", port=5557)
    assert master_of("master.local:6000") == Master(host="master.local", port=6000)


@pytest.mark.parametrize("text", ["", ":5557", "host:", "host:0", "host:70000", "host:x", "http://host:5557"])
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="no address of a master: HOST or HOST:PORT"):
        master_of(text)


def test_workers_run_a_locustfile_of_their_own_by_its_path_never_code_from_the_master() -> None:
    command = worker_command(Master(host="10.0.0.5", port=5557))
    path = Path(command[command.index("-f") + 1])
    assert path.is_absolute()
    assert path.is_file()
    assert "-" not in command


def test_settings_of_the_worker_host_for_locust_do_not_reach_the_worker() -> None:
    env = worker_env({"LOCUST_LOCUSTFILE": "-", "LOADSTAIR_TOKEN": "t", "LOADSTAIR_LOAD_CONFIG": "c", "KEY": "k"})
    assert env["KEY"] == "k"
    assert not {"LOCUST_LOCUSTFILE", "LOADSTAIR_TOKEN", "LOADSTAIR_LOAD_CONFIG"} & set(env)


def test_what_differs_is_named_with_both_sides() -> None:
    ours = identity([worker_command(Master(host="h", port=1))[4]])
    assert differences(ours, ours) == []
    theirs = ours | {"locust": "2.40.0", "host": "elsewhere", "pid": 1}
    assert differences(theirs, ours) == [f"Locust: 2.40.0 on the worker, {ours['locust']} on the master"]
    assert len(differences({}, ours)) == 6


def test_the_deadline_tells_who_came_who_was_turned_away_and_how_many_are_missing() -> None:
    looks: list[Muster | None] = [
        None,
        Muster(came=("a (10.0.0.7, pid 1)",), turned_away=()),
        Muster(came=("a (10.0.0.7, pid 1)",), turned_away=("b (10.0.0.8, pid 2): other",)),
    ]
    told: list[str] = []
    wanted = RemoteWorkers(expect=3, bind="10.0.0.5", wait_s=0.2)

    def look() -> Muster | None:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    with pytest.raises(LoadError) as caught:
        wait_for_workers(wanted, look, tell=told.append, wait=lambda _: None)
    assert str(caught.value) == (
        "workers: 2 of 3 missing after 0.2 s (came: a (10.0.0.7, pid 1); turned away: b (10.0.0.8, pid 2): other): "
        "start `scripts/run_worker.sh 10.0.0.5:5557` on the worker hosts, or lower workers.expect"
    )
    assert told == [
        "waiting up to 0.2 s for 3 remote workers at 10.0.0.5:5557",
        "worker here: a (10.0.0.7, pid 1)",
        "turned away: b (10.0.0.8, pid 2): other",
    ]


def test_an_address_of_another_machine_is_told_before_anything_starts() -> None:
    with pytest.raises(LoadError, match=r"192\.0\.2\.1:5557: is not an address of this machine"):
        check_address(RemoteWorkers(expect=1, bind="192.0.2.1"))


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        with pytest.raises(LoadError, match=f"127.0.0.1:{port}: port {port} is taken"):
            check_address(RemoteWorkers(expect=1, bind="127.0.0.1", port=port))


@pytest.mark.slow
def test_more_workers_than_expected_are_told_and_get_no_load(scripted_server: str, tmp_path: Path) -> None:
    workers, told, notes = remote(), [], Notes()
    log = tmp_path / "worker.log"
    load = LOAD.model_copy(update={"steps": (2.0, 5.0), "hold_s": 0.5})
    with (
        started(worker(workers, "--processes", "2"), log),
        LoadSession(visit_load(scripted_server), workers=workers, log_dir=tmp_path, tell=told.append) as session,
    ):
        records, drained = climb(session, in_order(load.steps), load, notes.hooks)
        wait_until(lambda: "not needed" in log.read_text())
    assert drained
    assert [record.workers for record in records] == [("worker-0",), ("worker-0",)]
    assert [record.workers_lost for record in records] == [(), ()]
    assert "not needed: the visit has its 1 workers" in log.read_text()
    assert sum(line.startswith("worker here") for line in told) == 1


@pytest.mark.slow
def test_a_worker_tells_the_cpu_and_memory_that_its_process_uses(scripted_server: str, tmp_path: Path) -> None:
    workers = remote()
    told: list[str] = []
    with (
        started(worker(workers, "--processes", "1"), tmp_path / "worker.log"),
        LoadSession(visit_load(scripted_server), workers=workers, log_dir=tmp_path, tell=told.append) as session,
    ):
        assert session.processes() == ()  # without a rank it has no name yet
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        (said,) = (found for line in told if (found := re.search(r"pid (\d+)", line)))
        seen = psutil.Process(int(said[1]))
        with Sampler([WorkersElsewhere(session.processes)], interval_s=0.2) as sampler:
            before = seen.cpu_times()
            (process,) = session.processes()
            after = seen.cpu_times()
            sleep_s(1.5)
            rows = sampler.take_rows()
        session.stop()
    assert process.worker == "worker-0"
    tick_s = 1 / os.sysconf("SC_CLK_TCK")  # psutil counts user and system time in whole ones
    assert sum(before[:2]) - 2 * tick_s <= process.cpu_s <= sum(after[:2]) + 2 * tick_s
    assert process.memory_bytes is not None
    assert process.memory_bytes > 20_000_000  # Python with Locust alone is more
    assert {(row.source, row.series) for row in rows} == {
        ("generator/worker-0", "generator.cpu_percent"),
        ("generator/worker-0", "generator.memory_bytes"),
    }


@pytest.mark.slow
def test_another_version_is_refused_and_both_ends_say_which(scripted_server: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(PACKAGE, other / "loadstair", ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    shutil.copytree(PACKAGE.parent / "locustfiles", other / "locustfiles")
    (other / "loadstair" / "__init__.py").write_text('__version__ = "9.9.9"\n')
    workers, said = remote(wait_s=12.0), _Said()
    with (
        pytest.raises(LoadError) as caught,
        said.by(worker(workers, "--processes", "1"), {**os.environ, "PYTHONPATH": str(other)}, tmp_path),
        LoadSession(visit_load(scripted_server), workers=workers, log_dir=tmp_path),
    ):
        pass
    difference = f"Loadstair: 9.9.9 on the worker, {loadstair.__version__} on the master"
    assert "1 of 1 missing" in str(caught.value)
    assert difference in str(caught.value)
    assert said.exit_code == 3
    assert difference in " ".join(said.text.split())


@pytest.mark.slow
def test_a_worker_without_the_key_says_so_on_both_ends(scripted_server: str, tmp_path: Path) -> None:
    wanted = visit_load(scripted_server)
    wanted = replace(wanted, endpoint=replace(wanted.endpoint, api_key_env="LOADSTAIR_NO_SUCH_KEY"))
    workers, said = remote(wait_s=12.0), _Said()
    with (
        pytest.raises(LoadError) as caught,
        said.by(worker(workers, "--processes", "1"), ENV, tmp_path),
        LoadSession(wanted, workers=workers, log_dir=tmp_path),
    ):
        pass
    line = "the environment variable LOADSTAIR_NO_SUCH_KEY is not set on this worker"
    assert line in str(caught.value)
    assert said.exit_code == 3
    assert line in said.text


class _Said:
    """What a worker command that ends by itself left behind."""

    exit_code: int | None = None
    text: str = ""

    def by(self, command: Sequence[str], env: dict[str, str], folder: Path) -> "_Running":
        return _Running(self, subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=folder))


class _Running:
    def __init__(self, said: _Said, process: "subprocess.Popen[str]") -> None:
        self._said = said
        self._process = process

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        try:
            self._said.text = self._process.communicate(timeout=30)[1]
        finally:
            self._process.kill()
            self._process.wait()
        self._said.exit_code = self._process.returncode
