"""How long a loop had been blind before it read a byte, as JSON; run in a process of its own."""

import json
import time

import gevent
from gevent import socket, spawn

from loadstair.clock import monotonic_ns, now_ns
from loadstair.load.loopwatch import LoopWatch

BUSY_NS = 30_000_000


def be_busy() -> None:
    until_ns = monotonic_ns() + BUSY_NS
    while monotonic_ns() < until_ns:
        pass


def blind_ns(watch: LoopWatch, reader: socket.socket, writer: socket.socket, *, how: str) -> int:
    """The byte is written while the loop waits; before a greenlet keeps it busy; and before a callback does as well."""
    seen: list[int] = []

    def read() -> None:
        gevent.get_hub().wait(gevent.get_hub().loop.io(reader.fileno(), 1))
        seen.append(now_ns() - watch.since_ns)
        reader.recv(1)

    def act() -> None:
        if how != "waiting":
            writer.send(b"x")
            be_busy()
        if how == "callback":
            gevent.get_hub().loop.run_callback(be_busy)
        if how == "waiting":
            gevent.get_hub().threadpool.spawn(write_later)

    def write_later() -> None:
        time.sleep(0.05)
        writer.send(b"x")

    greenlet = spawn(read)
    gevent.sleep(0.01)
    gevent.spawn(act)
    greenlet.join()
    return seen[0]


def main() -> None:
    watch = LoopWatch()
    reader, writer = socket.socketpair()
    found = {
        how: [blind_ns(watch, reader, writer, how=how) for _ in range(5)] for how in ("waiting", "busy", "callback")
    }
    print(json.dumps({"busy_ns": BUSY_NS} | found))


main()
