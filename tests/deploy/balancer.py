"""The compose file's nginx on this machine: names and ports are exchanged, nothing else."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadstair.child import Child
from loadstair.clock import Deadline, sleep_s
from loadstair.topology.nginx import nginx_path
from loadstair.topology.ports import someone_listens
from tests.deploy.compose_file import ROOT

CONFIG = ROOT / "deploy/nginx/tp2x2.conf"
ENGINES_ADDRESS = "127.0.0.2"
"""Where the engines listen: another address than the one that the plan knows them by, as between containers."""


def config_here(folder: Path, ports: Mapping[str, int], engines: str = ENGINES_ADDRESS) -> Path:
    """`ports`: what 8080, 8001 and 8002 are here."""
    text = CONFIG.read_text(encoding="utf-8")
    for name in ("tp2x2-a", "tp2x2-b"):
        text = text.replace(f"server {name}:", f"server {engines}:")
    text = text.replace("listen 8080 ", f"listen 127.0.0.1:{ports['8080']} ")
    for port in ("8001", "8002"):
        text = text.replace(f":{port}", f":{ports[port]}")
    path = folder / "nginx.conf"
    path.write_text(text.replace("/tmp/nginx.pid", str(folder / "nginx.pid")), encoding="utf-8")
    return path


def nginx_command(folder: Path, config: Path) -> list[str]:

    path = nginx_path()
    assert path is not None
    return [path, "-p", str(folder), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]


def config_test(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*nginx_command(folder, config), "-t"], capture_output=True, text=True, timeout=20)


@contextmanager
def running_balancer(folder: Path, ports: Mapping[str, int], engines: str = ENGINES_ADDRESS) -> Iterator[str]:
    """Its origin."""
    command = nginx_command(folder, config_here(folder, ports, engines))
    with Child("nginx", command, log_path=folder / "nginx.log") as child:
        deadline = Deadline.after_s(20)
        while not someone_listens("127.0.0.1", ports["8080"]):
            assert child.exit_status() is None, child.log_tail()
            assert not deadline.passed()
            sleep_s(0.02)
        yield f"http://127.0.0.1:{ports['8080']}"
