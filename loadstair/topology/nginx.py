"""nginx in front of several engines: unprivileged, on loopback, in a directory of its own."""

import contextlib
import os
import pwd
import re
import resource
import shutil
import string
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, assert_never

from loadstair.child import Child, exit_line, log_tail, start_child
from loadstair.clock import Deadline, sleep_s
from loadstair.errors import TopologyError
from loadstair.topology.engines import POLL_S, PORT_ATTEMPTS, why_not_ready
from loadstair.topology.ports import LOOPBACK, free_ports, is_taken

Policy = Literal["round_robin", "least_conn", "random_two", "hash"]

STATUS_PATH = "/loadstair/nginx_status"
MISSING_LINE = "nginx not found: install it (apt-get install nginx) or use scripts/run_plan.sh, which says how"
ERROR_LOG_OPTION_SINCE = (1, 19, 5)
TEST_TIMEOUT_S = 20.0
OPEN_FILES_WANTED = 65_536
CONNECTIONS_MAX = 16_384
# After the policy. The time is shorter than uvicorn's 5 s, so that an idle connection is let go of before the engine
# closes it under a request.
KEEPALIVE_DIRECTIVES = ("keepalive 512;", "keepalive_requests 100000;", "keepalive_timeout 4s;")
WORKERS_MAX = 4


class ConfigTemplate(string.Template):
    """`@{name}`, because `$name` is nginx's own."""

    delimiter = "@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    path: str
    version: str

    def version_numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:3])


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedNginx:
    child: Child
    port: int
    version: str

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def status_url(self) -> str:
        return self.url + STATUS_PATH


def nginx_path(search: str | None = None) -> str | None:
    """Where nginx is, None if nowhere. `search` is a list of directories like PATH.

    By default PATH itself and the directories for administrators, which a user's PATH may lack.
    """
    if search is None:
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("nginx", path=search)


def find_nginx(search: str | None = None) -> Nginx:
    """Raises TopologyError if there is none that runs."""
    path = nginx_path(search)
    if path is None:
        raise TopologyError(MISSING_LINE)
    try:
        answer = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=TEST_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TopologyError(f"{path} -v: {error}; expected an nginx that runs") from error
    found = re.search(r"nginx/(\S+)", answer.stderr)
    return Nginx(path=path, version=found.group(1) if found else "unknown")


def render_config(*, policy: Policy, upstreams: Sequence[str], port: int, keep_alive: bool) -> str:
    """nginx.conf for these upstreams (`host:port`); `keep_alive` tells whether connections to them are used again."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files_max = OPEN_FILES_WANTED if hard_limit == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard_limit)
    template = (resources.files("loadstair.topology") / "nginx.conf.template").read_text(encoding="utf-8")
    return ConfigTemplate(template).substitute(
        user=_user_directive(),
        worker_processes=max(1, min(WORKERS_MAX, (os.cpu_count() or 1) // 2)),
        open_files_max=open_files_max,
        worker_connections=max(64, min(CONNECTIONS_MAX, open_files_max // 2)),
        policy=_policy_directive(policy),
        # max_fails=0: an engine that fails keeps its share, so that its failures are seen and not routed around.
        servers="\n        ".join(f"server {upstream} max_fails=0;" for upstream in upstreams),
        keepalive="\n        ".join(KEEPALIVE_DIRECTIVES) if keep_alive else "# A new connection for each request.",
        connection_header='""' if keep_alive else "close",
        address=f"{LOOPBACK}:{port}",
        status_path=STATUS_PATH,
    )


def _user_directive() -> str:
    """Workers stay who we are: started by root they would become `nobody`, who may not enter the run folder."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


def _policy_directive(policy: Policy) -> str:
    match policy:
        case "round_robin":
            return "# round robin is nginx's default"
        case "least_conn":
            return "least_conn;"
        case "random_two":
            return "random two least_conn;"
        case "hash":
            return "hash $affinity consistent;"
        case _:
            assert_never(policy)


def start_nginx(
    stack: contextlib.ExitStack,
    *,
    policy: Policy,
    upstreams: Sequence[str],
    keep_alive: bool,
    prefix: Path,
    topology: str,
    deadline: Deadline,
    nginx: Nginx,
    find_port: Callable[[], int] = lambda: free_ports(1)[0],
) -> StartedNginx:
    """nginx, answering; `stack` stops it. Raises TopologyError if it refuses its configuration or does not start."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = find_port()
        config = render_config(policy=policy, upstreams=upstreams, port=port, keep_alive=keep_alive)
        try:
            prefix.mkdir(parents=True, exist_ok=True)
            (prefix / "nginx.conf").write_text(config, encoding="utf-8")
        except OSError as error:
            raise TopologyError(f"topology {topology}: {prefix}: {error.strerror}") from error
        command = _command(nginx, prefix)
        _test_config(command, topology=topology)
        try:
            child = start_child(stack, "nginx", command, log_path=prefix / "nginx.log")
        except OSError as error:
            raise TopologyError(f"topology {topology}: cannot start {nginx.path}: {error}") from error
        started = StartedNginx(child=child, port=port, version=nginx.version)
        if _answers(started, prefix, topology=topology, deadline=deadline, last_attempt=attempt == PORT_ATTEMPTS):
            return started
    raise TopologyError(f"topology {topology}: nginx found no free port in {PORT_ATTEMPTS} attempts")


def _command(nginx: Nginx, prefix: Path) -> list[str]:
    # Before 1.19.5 nginx had no -e, and complains (without harm) that it may not write the system's error log.
    error_log = ["-e", "error.log"] if nginx.version_numbers() >= ERROR_LOG_OPTION_SINCE else []
    return [nginx.path, "-p", str(prefix.resolve()), "-c", "nginx.conf", *error_log]


def _test_config(command: Sequence[str], *, topology: str) -> None:
    try:
        test = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=TEST_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TopologyError(f"topology {topology}: nginx -t: {error}") from error
    if test.returncode != 0:
        lines = [line for line in test.stderr.splitlines() if "[emerg]" in line] or test.stderr.splitlines()
        said = lines[0] if lines else exit_line(test.returncode)
        raise TopologyError(f"topology {topology}: nginx refused its configuration: {said}", test.stderr or None)


def _answers(started: StartedNginx, prefix: Path, *, topology: str, deadline: Deadline, last_attempt: bool) -> bool:
    """True once the status page answers; False if another process took the port first."""
    while True:
        status = started.child.exit_status()
        if status is not None:
            if is_taken(started.port) and not last_attempt:
                return False
            raise TopologyError(
                f"topology {topology}: nginx did not start on port {started.port}: {exit_line(status)}",
                log_tail(prefix / "error.log") or started.child.log_tail(),
            )
        reason = why_not_ready(started.status_url, deadline)
        if reason is None:
            return True
        if deadline.passed():
            raise TopologyError(
                f"topology {topology}: nginx was not ready in time: {reason}", log_tail(prefix / "error.log")
            )
        sleep_s(POLL_S)
