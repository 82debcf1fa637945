"""Hosts of a private network that lie on this machine: network namespaces, each with a link to a bridge of ours.

Every name has the number of the process that made it, so that what a killed one left is found and removed: a second
bridge with the same address would take the answers meant for the first.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

NETWORK = "10.213.77"
MASTER = f"{NETWORK}.1"


@dataclass(frozen=True)
class Host:
    namespace: str
    address: str

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def cut_off(self) -> None:
        _ip(f"-n {self.namespace} link set eth0 down")

    def join(self) -> None:
        _ip(f"-n {self.namespace} link set eth0 up")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """This machine has the address MASTER in their network. Raises OSError where that is not permitted."""
    if shutil.which("ip") is None:
        raise OSError("needs the command ip (iproute2)")
    _remove_what_was_left()
    mark = f"ls{os.getpid()}"  # an interface's name has 15 characters at most
    with ExitStack() as stack:
        _made(stack, f"link add {mark} type bridge", f"link del {mark}")
        _ip(f"addr add {MASTER}/24 dev {mark}")
        _ip(f"link set {mark} up")
        made = []
        for number in range(count):
            host = Host(f"{mark}-{number}", f"{NETWORK}.{number + 2}")
            _made(stack, f"netns add {host.namespace}", f"netns del {host.namespace}")
            ours = f"{mark}v{number}"
            _ip(f"link add {ours} type veth peer name eth0 netns {host.namespace}")
            stack.callback(subprocess.run, ["ip", "link", "del", ours], capture_output=True, check=False)
            _ip(f"link set {ours} master {mark} up")
            for line in (f"addr add {host.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                _ip(f"-n {host.namespace} {line}")
            made.append(host)
        yield made


def _remove_what_was_left() -> None:
    """Namespaces and links of processes that no longer run."""
    for kind, listing in (("netns", "netns list"), ("link", "-brief link")):
        done = subprocess.run(["ip", *listing.split()], capture_output=True, text=True, check=True)
        for name, process in re.findall(r"^(ls(\d+)(?:-\d+|v\d+)?)\b", done.stdout, re.MULTILINE):
            if not psutil.pid_exists(int(process)):
                subprocess.run(["ip", kind, "del", name], capture_output=True, check=False)


def _made(stack: ExitStack, make: str, unmake: str) -> None:
    _ip(make)
    stack.callback(subprocess.run, ["ip", *unmake.split()], capture_output=True, check=False)


def _ip(arguments: str) -> None:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {arguments}: {done.stderr.strip()}")
