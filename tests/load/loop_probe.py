"""How long a loop had been blind before it read a byte, as JSON; run in a process of its own."""

import json
import time

import gevent
import gevent.socket
import httpx2
from gevent import socket, spawn

from loadstair.clock import monotonic_ns, now_ns
from loadstair.load.connection import PlainConnection
from loadstair.load.exchange import Exchange
from loadstair.load.loopwatch import LoopWatch
from loadstair.load.transport import Flight

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


def waited_us(watch: LoopWatch) -> int:
    """Of a read that brings two pieces of a response: one from before the loop was busy, one from right after it."""
    with gevent.socket.create_server(("127.0.0.1", 0)) as listener:
        client = gevent.socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    exchange = Exchange("id")
    request = httpx2.Request("POST", "http://127.0.0.1/")
    flight = Flight(PlainConnection(client), exchange, request, watch, reused=False)
    flight.send(b"POST / HTTP/1.1\r\n\r\n")
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    flight.read_head()
    reading = spawn(flight.read_body)
    gevent.sleep(0.01)
    server.sendall(b"a")
    be_busy()
    server.sendall(b"b")
    reading.get()
    flight.connection.close()
    server.close()
    assert bytes(exchange.body) == b"ab"
    return exchange.waited_us[0]


def main() -> None:
    watch = LoopWatch()
    reader, writer = socket.socketpair()
    found = {
        how: [blind_ns(watch, reader, writer, how=how) for _ in range(5)] for how in ("waiting", "busy", "callback")
    }
    merged = waited_us(watch)
    print(json.dumps({"busy_ns": BUSY_NS, "waited_us": merged} | found))


main()
