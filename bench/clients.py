"""One client against a paced server, in a process of its own: what `bench/generator.py` starts, pinned to a core.

    python bench/clients.py ours|openai|socket --url http://127.0.0.1:PORT --streams N --tokens N --warmup S --seconds S

A closed loop: a stream sends its next request when the last has ended; their first ones come at random moments of the
first two seconds. Prints `measuring` when the warm-up is over, `measured` at the end of the time, then what it saw as a
line of JSON.
"""

import argparse
import json
import os
import random
import resource
import struct
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from locust import User  # noqa: F401  first: importing it patches the process

# isort: split

import gevent
import gevent.socket
import msgpack
import numpy as np
import numpy.typing as npt
import openai
from locust.env import Environment

from loadstair.clock import Deadline
from loadstair.load.config import LoadConfig
from loadstair.load.gate import Gate
from loadstair.load.install import spare_the_parser
from loadstair.load.tag import Tag
from loadstair.load.user import ChatUser
from loadstair.load.worker import WorkerLoad
from loadstair.plan.model import Workload
from loadstair.samples.record import SAMPLE_FIELDS, Outcome, Phase

SPAWNS_PER_S: Final = 100
"""Parked, they send nothing; Locust warns of more."""
GROWTH_S: Final = 2.0
DRAIN_S_MAX: Final = 60.0
RSS_LOOK_S: Final = 0.25
PROMPT: Final = "Tell me of the harbour, the orchard and the workshop."
SO_TIMESTAMPNS: Final = 35
NS_PER_S: Final = 1_000_000_000

Times = npt.NDArray[np.int64]


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Window:
    """The time that counts, and the CPU that this process used in it."""

    def __init__(self, warmup_s: float, seconds: float) -> None:
        gevent.sleep(warmup_s)
        print("measuring", flush=True)
        self._cpu_before_s = cpu_s()
        self.from_ns = time.time_ns()
        gevent.sleep(seconds)
        self.to_ns = time.time_ns()
        self.cpu_s = cpu_s() - self._cpu_before_s
        print("measured", flush=True)

    def cpu_until_now_s(self) -> float:
        return cpu_s() - self._cpu_before_s

    def holds(self, times: Times) -> npt.NDArray[np.bool_]:
        return (times >= self.from_ns) & (times < self.to_ns)


def said(window: Window, answers: list[tuple[int, Times]], **more: Any) -> dict[str, Any]:
    """`answers`: of each request when it was sent and when each of its tokens came."""
    tokens = sum(int(window.holds(arrivals).sum()) for _, arrivals in answers)
    ttft = [arrivals[:1] - sent for sent, arrivals in answers if window.holds(arrivals[:1]).any()]
    itl = [np.diff(arrivals)[window.holds(arrivals[1:])] for _, arrivals in answers]
    return {
        "tokens": tokens,
        "cpu_s": window.cpu_s,
        "elapsed_s": (window.to_ns - window.from_ns) / NS_PER_S,
        "bunched": sum(int((gaps == 0).sum()) for gaps in itl),
        "ttft": spread(ttft),
        "itl": spread(itl),
        **more,
    }


def spread(parts: list[Times]) -> dict[str, int | None]:
    times = np.concatenate([np.empty(0, np.int64), *parts])
    if not len(times):
        return {"n": 0, "p50_ns": None, "p99_ns": None, "max_ns": None}
    p50, p99 = (int(np.percentile(times, share)) for share in (50, 99))
    return {"n": len(times), "p50_ns": p50, "p99_ns": p99, "max_ns": int(times.max())}


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """A Locust runner with our user class: everything that a worker does, its records packed and handed over in batches
    (to a file, where a worker's go to the master's socket)."""
    spare_the_parser()
    lengths = {"input_tokens": {"mean": 10, "cv": 0}, "output_tokens": {"mean": options.tokens, "cv": 0}}
    config = LoadConfig(
        base_url=f"{options.url}/v1", workload=Workload.model_validate({"model": "paced", **lengths}), headers={}
    )
    environment = Environment(user_classes=[ChatUser])
    runner = environment.create_local_runner()
    gate = Gate(seed=1, tag=Tag(step=0, load=0.0, phase=Phase.WARMUP))
    with tempfile.TemporaryFile() as file:

        def keep(batch: bytes, _records: int, _latencies: object) -> None:
            file.write(struct.pack("<I", len(batch)) + batch)

        load = WorkerLoad(config, environment, nonce=b"bench", gate=gate, send_batch=keep)
        load.run_request(0)  # whatever is made on first use is no stream's memory
        rss_before = rss_max = rss_bytes()
        ChatUser.load = load
        runner.start(options.streams, spawn_rate=SPAWNS_PER_S)
        while runner.user_count < options.streams:
            gevent.sleep(0.05)
        tag = Tag(step=1, load=options.streams, phase=Phase.HOLD)
        gate.begin_step(tag, rank=0, workers=1, active=options.streams, growth_s=GROWTH_S)

        def look() -> None:
            nonlocal rss_max
            while True:
                rss_max = max(rss_max, rss_bytes())
                gevent.sleep(RSS_LOOK_S)

        looking = gevent.spawn(look)
        window = Window(options.warmup, options.seconds)
        looking.kill()
        gate.park_all()
        deadline = Deadline.after_s(DRAIN_S_MAX)
        while load.recorder.in_flight() and not deadline.passed():
            gevent.sleep(0.05)
        load.recorder.flush(deadline)
        whole_cpu_s = window.cpu_until_now_s()
        file.seek(0)
        rows = [dict(zip(SAMPLE_FIELDS, row, strict=True)) for row in _rows(file)]
    rows = [row for row in rows if row["step"] == 1]
    answers = [(row["sent_ns"], np.frombuffer(row["arrivals"], "<i8")) for row in rows if row["sent_ns"]]
    whole = sum(int((arrivals >= window.from_ns).sum()) for _, arrivals in answers)
    runner.quit()
    load.close()
    return said(
        window,
        answers,
        failed=sum(row["outcome"] != Outcome.OK for row in rows),
        cpu_s_to_last_record=whole_cpu_s,
        tokens_to_last_record=whole,
        bunched_late=sum(row["bunched_late"] for row in rows),
        read_lag_ns_max=max((row["read_lag_ns"] or 0 for row in rows), default=0),
        rss_growth_bytes=rss_max - rss_before,
    )


def _rows(file: Any) -> Iterator[list[Any]]:
    while head := file.read(4):
        yield from msgpack.unpackb(file.read(struct.unpack("<I", head)[0]))["records"]


def stock_sdk(options: argparse.Namespace) -> dict[str, Any]:
    """What a Locust user written by hand does: the openai SDK's own stream, a look at the clock for each chunk."""
    client = openai.OpenAI(base_url=f"{options.url}/v1", api_key="none", max_retries=0)

    def ask(sent: Callable[[], None], came: Callable[[int], None]) -> None:
        sent()
        stream = client.chat.completions.create(
            model="paced",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=options.tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                came(time.time_ns())

    return greenlets(options, lambda: ask)


def bare_socket(options: argparse.Namespace) -> dict[str, Any]:
    """gevent's socket, a message made beforehand, the kernel's stamps, and a look for each event's end: the least that
    a client under gevent can do."""
    host, _, port = options.url.removeprefix("http://").rpartition(":")
    keeper = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    keeper.setsockopt(gevent.socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    fields = {"model": "paced", "stream": True, "max_tokens": options.tokens, "stream_options": {"include_usage": True}}
    body = json.dumps({**fields, "messages": [{"role": "user", "content": PROMPT}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    message = head.encode() + body

    def connected() -> Callable[[Callable[[], None], Callable[[int], None]], None]:
        sock = gevent.socket.create_connection((host, int(port)))
        sock.setsockopt(gevent.socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

        def ask(sent: Callable[[], None], came: Callable[[int], None]) -> None:
            sent()
            sock.sendall(message)
            left = b""
            while not left.endswith(b"0\r\n\r\n"):
                data, ancillary, _, _ = sock.recvmsg(16384, 64)
                if not data:
                    raise ConnectionError("the server closed")
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
                *events, left = (left + data).split(b"\n\n")
                for event in events:
                    if b'"content":" ' in event:
                        came(seconds * NS_PER_S + nanoseconds)

        return ask

    with keeper:
        return greenlets(options, connected)


def greenlets(options: argparse.Namespace, connected: Callable[[], Callable[..., None]]) -> dict[str, Any]:
    """Each stream a greenlet that asks again and again, noting its own times."""
    books: list[list[tuple[int, array[int]]]] = [[] for _ in range(options.streams)]
    rng = random.Random(1)
    failed = 0

    def stream(book: list[tuple[int, "array[int]"]], pause_s: float) -> None:
        nonlocal failed
        ask = connected()
        gevent.sleep(pause_s)
        while True:
            arrivals = array("q")
            try:
                ask(lambda: book.append((time.time_ns(), arrivals)), arrivals.append)  # noqa: B023  called at once
            except (openai.OpenAIError, OSError):
                failed += 1
                gevent.sleep(0.1)

    running = [gevent.spawn(stream, book, rng.random() * GROWTH_S) for book in books]
    window = Window(options.warmup, options.seconds)
    answers = [(sent, np.array(arrivals, np.int64)) for book in books for sent, arrivals in book]
    gevent.killall(running, block=False)
    return said(window, answers, failed=failed)


CLIENTS: Final = {"ours": ours, "openai": stock_sdk, "socket": bare_socket}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--warmup", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    print(json.dumps(CLIENTS[options.client](options)), flush=True)
    os._exit(0)  # what still streams has nothing more to say


if __name__ == "__main__":
    main()
