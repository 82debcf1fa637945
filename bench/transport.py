"""What the records cost the Locust master, and what a second worker adds.

    python bench/transport.py [--workers 1 2] [--users 16] [--tokens 256] [--seconds 40]
    python bench/transport.py --rate 2000 [--workers 1] [--tokens 256] [--seconds 120]

Real workers against the native server, which sends as fast as the sockets take it; records are fetched every 5 s, as
every half minute of a long step. The master's CPU is told for each request, and as the share of one core that 2,000
requests/s would take; its memory after a third of the time and at the end. Workers, server and this program share the
cores: n workers need n + 2 of them to tell what the n-th one adds.

With --rate the workers send nothing (bench/feeder.py): they record ready-made responses, so many a second in all, and
the master gets what that many requests would give it, on a machine that could not serve them. It keeps up if the
longest flush, which waits until every record is with the master, does not grow.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil

from loadstair.calibrate.paced import PacedServer
from loadstair.child import start_child
from loadstair.clock import Deadline, monotonic_ns, sleep_s
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.plan.model import Lengths, Load, RemoteWorkers, Workload
from loadstair.samples.record import Phase
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.ports import free_ports
from loadstair.units import s_from_ns

WANTED_PER_S: Final = 2000
FEEDER: Final = Path(__file__).with_name("feeder.py")
PART_S: Final = 5.0
WARMUP_S: Final = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--users", type=int, default=16, help="of each worker")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rate", type=float, help="requests/s that the workers only record")
    options = parser.parse_args()
    print(
        f"{len(os.sched_getaffinity(0))} cores; {options.tokens} tokens a request\n\n"
        f"| workers | requests/s | tokens/s | master's CPU a request, µs | of a core at {WANTED_PER_S:,}/s "
        "| longest flush, s | master's memory, MB |\n|---|---|---|---|---|---|---|"
    )
    for workers in options.workers:
        print(line(workers, options), flush=True)


def line(workers: int, options: argparse.Namespace) -> str:
    users = options.users * workers if options.rate is None else 0
    with ExitStack() as stack:
        session = stack.enter_context(loaded(workers, options))
        session.begin_step(step=0, load=users, users=users, growth_s=0.5)
        sleep_s(WARMUP_S)
        session.set_phase(Phase.HOLD)
        session.flush()
        session.take_records()
        session.confirm_records()
        master = psutil.Process(session.pids["master"])
        cpu_before, begun_ns = sum(master.cpu_times()[:2]), monotonic_ns()
        memory, flushes_s, requests = [], [], 0
        over = Deadline.after_s(options.seconds)
        while not over.passed():
            sleep_s(min(PART_S, over.left_s()))
            asked_ns = monotonic_ns()
            session.flush()
            flushes_s.append(s_from_ns(monotonic_ns() - asked_ns))
            requests += session.take_records().num_rows
            session.confirm_records()
            memory.append(master.memory_info().rss / 1e6)
        cpu_s, took_s = sum(master.cpu_times()[:2]) - cpu_before, s_from_ns(monotonic_ns() - begun_ns)
    each_us = 1e6 * cpu_s / requests
    rate = requests / took_s
    third = len(memory) // 3
    early_s, late_s = max(flushes_s[: third + 1]), max(flushes_s[-third - 1 :])
    share = each_us * WANTED_PER_S / 1e6
    return (
        f"| {workers} | {rate:,.0f} | {rate * options.tokens:,.0f} | {each_us:.0f} | {share:.0%} "
        f"| {early_s:.2f} → {late_s:.2f} | {memory[third]:.0f} → {memory[-1]:.0f} |"
    )


@contextmanager
def loaded(workers: int, options: argparse.Namespace) -> Iterator[LoadSession]:
    """With workers that send, or that only record."""
    load = Load(steps=(options.users * workers,))
    with tempfile.TemporaryDirectory(prefix="loadstair-transport-") as folder, ExitStack() as stack:
        if options.rate is None:
            server = stack.enter_context(PacedServer(ttft_ms=0, gap_ms=0))
            visit = visit_load(server.url, load, options.tokens)
            yield stack.enter_context(LoadSession(visit, workers=workers, log_dir=Path(folder)))
            return
        (port,) = free_ports(1)
        feeder = [sys.executable, str(FEEDER), str(port), str(options.rate / workers), str(options.tokens)]
        env = {**os.environ, "LOADSTAIR_SPOOL_DIR": folder}
        for number in range(workers):
            log_path = Path(folder) / f"feeder-{number}.log"
            start_child(stack, f"feeder {number}", feeder, log_path=log_path, env=env)
        remote = RemoteWorkers(expect=workers, bind="127.0.0.1", port=port)
        visit = visit_load("http://127.0.0.1:9", load, options.tokens)
        yield stack.enter_context(LoadSession(visit, workers=remote, log_dir=Path(folder)))


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
