"""What the records cost the Locust master, and what a second worker adds.

    python bench/transport.py [--workers 1 2] [--users 16] [--tokens 256] [--seconds 40]

Real workers against the native server, which sends as fast as the sockets take it; records are fetched every 5 s, as
every half minute of a long step. The master's CPU is told for each request, and as the share of one core that 2,000
requests/s would take; its memory after a third of the time and at the end. Workers, server and this program share the
cores: n workers need n + 2 of them to tell what the n-th one adds.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Final

import psutil

from loadstair.calibrate.paced import PacedServer
from loadstair.clock import Deadline, sleep_s
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.plan.model import Lengths, Load, Workload
from loadstair.samples.record import Phase
from loadstair.topology.endpoint import Endpoint

WANTED_PER_S: Final = 2000
PART_S: Final = 5.0
WARMUP_S: Final = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--users", type=int, default=16, help="of each worker")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    print(
        f"{len(os.sched_getaffinity(0))} cores; {options.tokens} tokens a request\n\n"
        f"| workers | requests/s | tokens/s | master's CPU a request, µs | of a core at {WANTED_PER_S:,}/s "
        "| master's memory, MB |\n|---|---|---|---|---|---|"
    )
    for workers in options.workers:
        print(line(workers, options), flush=True)


def line(workers: int, options: argparse.Namespace) -> str:
    load = Load(steps=(options.users * workers,))
    with (
        tempfile.TemporaryDirectory(prefix="loadstair-transport-") as folder,
        PacedServer(ttft_ms=0, gap_ms=0) as server,
        LoadSession(visit_load(server.url, load, options.tokens), workers=workers, log_dir=Path(folder)) as session,
    ):
        users = options.users * workers
        session.begin_step(step=0, load=users, users=users, growth_s=0.5)
        sleep_s(WARMUP_S)
        session.set_phase(Phase.HOLD)
        session.flush()
        session.take_records()
        master = psutil.Process(session.pids["master"])
        cpu_before = sum(master.cpu_times()[:2])
        memory, requests = [], 0
        over = Deadline.after_s(options.seconds)
        while not over.passed():
            sleep_s(min(PART_S, over.left_s()))
            session.flush()
            requests += session.take_records().num_rows
            memory.append(master.memory_info().rss / 1e6)
        cpu_s = sum(master.cpu_times()[:2]) - cpu_before
    each_us = 1e6 * cpu_s / requests
    rate = requests / options.seconds
    early, late = memory[len(memory) // 3], memory[-1]
    return (
        f"| {workers} | {rate:,.0f} | {rate * options.tokens:,.0f} | {each_us:.0f} "
        f"| {each_us * WANTED_PER_S / 1e6:.0%} | {early:.0f} → {late:.0f} |"
    )


def visit_load(url: str, load: Load, tokens: int) -> VisitLoad:
    return VisitLoad(
        visit=0,
        topology="paced",
        repeat=0,
        seed=0,
        workload=Workload(model="paced", input_tokens=Lengths(mean=16), output_tokens=Lengths(mean=tokens)),
        load=load,
        endpoint=Endpoint(url=f"{url}/v1", replicas=()),
        calibrate_words=False,
    )


if __name__ == "__main__":
    main()
