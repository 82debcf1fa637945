"""What one simulated engine can do on one core, and how true its ledger and its step clock are.

    python bench/simserver.py [--streams 128] [--speed 3] [--seconds 40]

The engine runs on the first CPU this process may use, the client (plain non-blocking sockets) on the last. Printed:
tokens a second, the engine's CPU time for each token, the lateness of its steps, how much later than the ledger's stamp
the kernel stamped each arrival, and how late timers fire under asyncio's own selector and under the engine's.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import re
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadstair.simserver.closedloop import run_closed_loop
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from loadstair.simserver.options import parse_options
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.selector import MicrosecondEpollSelector, reduce_timer_slack
from loadstair.units import NS_PER_S, ns_from_s

MODEL = "Qwen/Qwen2.5-32B-Instruct"
SO_TIMESTAMPNS = 35
TOKEN_MARK = b'"delta":{"content":" '


class Stream:
    """One closed-loop user: sends a request, reads its answer, sends the next."""

    def __init__(self, address: tuple[str, int], number: int, input_tokens: int, output_tokens: int) -> None:
        self.arrivals: dict[str, list[tuple[int, int]]] = {}
        """By request id, for each token-carrying read: number of its last token, and the kernel's stamp of that."""
        self._tokens = 0
        self._number = number
        self._sent = 0
        self._output_tokens = stream_tokens(output_tokens, number)
        self._prompt = "word " * input_tokens
        self._tail = b""
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        self._request_id = f"bench-{self._number}-{self._sent}"
        self._sent += 1
        self.arrivals[self._request_id] = []
        self._tokens = 0
        fields = {
            "messages": [{"role": "user", "content": self._prompt}],
            "max_tokens": self._output_tokens,
            "ignore_eos": True,
            "stream": True,
        }
        body = json.dumps(fields).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nX-Request-Id: {self._request_id}\r\n"
        self.socket.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def read(self) -> bool:
        """True when the answer has ended."""
        data, control, _, _ = self.socket.recvmsg(1 << 16, 64)
        if not data:
            raise ConnectionError("the engine closed the connection")
        tokens = data.count(TOKEN_MARK)
        if tokens:
            self._tokens += tokens
            seconds, nanoseconds = struct.unpack("qq", control[0][2])
            self.arrivals[self._request_id].append((self._tokens - 1, seconds * NS_PER_S + nanoseconds))
        self._tail = (self._tail + data)[-5:]
        return self._tail == b"0\r\n\r\n"


def stream_tokens(output_tokens: int, number: int) -> int:
    """Lengths differ between users: equal ones would end, and prefill, together."""
    return output_tokens + number % max(2, output_tokens // 2)


@contextmanager
def engine(cpu: int, arguments: list[str]) -> Iterator[tuple[str, int]]:
    """Its origin and pid."""
    command = [sys.executable, "-m", "loadstair.simserver", "--port", "0", "--model", MODEL, "--gpu", "h100-nvl"]
    process = subprocess.Popen([*command, "--tp", "2", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(process.pid, {cpu})
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()


def drive(streams: list[Stream], seconds: float) -> None:
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.socket, selectors.EVENT_READ, stream)
        stream.send()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            if key.data.read():
                key.data.send()
    selector.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at_most(page: str, name: str, share: float) -> str:
    """Upper bound of the histogram bucket that holds this share of the observations, in words."""
    counts = [(float(le), float(n)) for le, n in re.findall(rf'{name}_bucket{{.*le="(.*)"}} (\S+)', page)]
    position = next(i for i, (_, count) in enumerate(counts) if count >= share * counts[-1][1])
    bound_s = counts[position][0]
    return f"≤ {bound_s * 1e6:.0f} µs" if math.isfinite(bound_s) else f"> {counts[position - 1][0]:g} s"


def mean_s(page: str, name: str) -> float:
    total, count = (float(re.findall(rf"{name}_{part}{{.*}} (\S+)", page)[0]) for part in ("sum", "count"))
    return total / count


def stamp_lags_us(entries: list[LedgerEntry], streams: list[Stream]) -> list[float]:
    """Kernel stamp minus ledger stamp, one for each read (its last token: a read has the stamp of its newest bytes)."""
    arrivals = {request_id: stamps for stream in streams for request_id, stamps in stream.arrivals.items()}
    return [
        (stamp_ns - entry.write_ns[token]) / 1000
        for entry in entries
        for token, stamp_ns in arrivals.get(entry.request_id, [])
    ]


def timer_lateness_us(selector: selectors.BaseSelector, count: int = 300) -> tuple[float, float]:
    """Median and p99 lateness of timers 1.3 ms apart."""
    late: list[float] = []

    async def wait_often() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for _ in range(count):
            due = max(due, loop.time()) + 0.0013
            fired = loop.create_future()
            loop.call_at(due, fired.set_result, None)
            await fired
            late.append((loop.time() - due) * 1e6)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(wait_often())
    return statistics.median(late), percentile(late, 0.99)


def predicted_tokens_per_s(given: argparse.Namespace) -> float:
    """The same closed loop in simulated time: an engine that is never late, clients that take no time."""
    options = parse_options(["--model", MODEL, "--gpu", "h100-nvl", "--tp", "2", "--speed", str(given.speed)])
    output_tokens = itertools.cycle([stream_tokens(given.output_tokens, n) for n in range(given.streams)])
    result = run_closed_loop(
        (Scheduler(options.scheduler),),
        users=given.streams,
        lengths=lambda _: (given.input_tokens, next(output_tokens)),
        window_start_ns=0,
        window_end_ns=ns_from_s(given.seconds),
        user_gap_ns=0,
    )
    return result.output_tokens_per_s()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--speed", type=float, default=3.0, help="of the engine, against the modelled GPUs")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--input-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=256)
    given = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        with engine(cpus[0], ["--speed", str(given.speed), "--ledger", str(ledger)]) as (origin, pid):
            os.sched_setaffinity(0, {cpus[-1]})
            host, _, port = origin.removeprefix("http://").rpartition(":")
            lengths = (given.input_tokens, given.output_tokens)
            streams = [Stream((host, int(port)), number, *lengths) for number in range(given.streams)]
            cpu_before_s, before_s = cpu_s(pid), time.monotonic()
            drive(streams, given.seconds)
            busy_s, elapsed_s = cpu_s(pid) - cpu_before_s, time.monotonic() - before_s
            with urllib.request.urlopen(f"{origin}/metrics") as answer:
                page = answer.read().decode()
            for stream in streams:
                stream.socket.close()
        entries = read_ledger(ledger)
    tokens = float(re.findall(r"vllm:generation_tokens_total{.*} (\S+)", page)[0])
    lags = stamp_lags_us(entries, streams)
    lateness = "loadstair_sim_step_lateness_seconds"
    print(f"{given.streams} streams, speed {given.speed:g}, {elapsed_s:.1f} s")
    print(f"  tokens            {tokens / elapsed_s:,.0f} a second ({predicted_tokens_per_s(given):,.0f} planned)")
    print(f"  engine CPU        {busy_s / tokens * 1e6:.1f} µs a token, {busy_s / elapsed_s:.0%} of a core")
    print(f"  planned step      {mean_s(page, 'loadstair_sim_step_seconds') * 1e3:.2f} ms on average")
    p50, p99 = (at_most(page, lateness, share) for share in (0.5, 0.99))
    print(f"  step lateness     p50 {p50}, p99 {p99}")
    if lags:
        print(f"  kernel − ledger   min {min(lags):.0f} µs, p50 {percentile(lags, 0.5):.0f} µs, "
              f"p99 {percentile(lags, 0.99):.0f} µs ({len(lags):,} reads)")  # fmt: skip
    print(
        "  timers            asyncio p50 {:.0f} µs, p99 {:.0f} µs".format(*timer_lateness_us(selectors.EpollSelector()))
    )
    reduce_timer_slack()
    print(
        "                    engine  p50 {:.0f} µs, p99 {:.0f} µs".format(
            *timer_lateness_us(MicrosecondEpollSelector())
        )
    )


if __name__ == "__main__":
    main()
