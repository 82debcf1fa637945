"""What the analysis of a large run takes: time, CPU time and memory of `loadstair analyze`.

    python bench/analysis.py [--requests 1000000] [--topologies 2] [--repeats 3] [--steps 8] [--soak] [--chunk-tokens]

Writes the folder of a run that never took place (a closed loop against servers that slow down as users come, with slow
waves over many tokens, stalls, and a few failed requests), analyses it in a child process, prints what the kernel
says of that child, and deletes the folder. Generating it is in no figure.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadstair.plan.model import Plan
from loadstair.plan.parse import parse_plan, plan_yaml
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Counters, Ending, RunRecord, ServerCounters, StepRecord, VisitRecord
from loadstair.samples.table import SAMPLE_SCHEMA
from loadstair.units import NS_PER_MS, NS_PER_S, ns_from_s

IntArray = npt.NDArray[np.int64]

START_NS = 1_800_000_000 * NS_PER_S
WARMUP_S = 10.0
WORKERS = ("worker0", "worker1")
FAILED_SHARE = 0.001
STALLED_SHARE = 0.0001
"""Of the gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    ttft_ms: float
    itl_ms: float
    users_at_double: float

    def slowed(self, users: int) -> float:
        return 1 + users / self.users_at_double

    def e2e_s(self, users: int, tokens: int) -> float:
        return (self.ttft_ms + (tokens - 1) * self.itl_ms) * self.slowed(users) / 1e3


SERVERS = (
    Server(ttft_ms=60, itl_ms=8, users_at_double=160),
    Server(ttft_ms=90, itl_ms=12, users_at_double=360),
)


def main() -> None:
    given = arguments()
    servers = {f"arm{i}": SERVERS[i % len(SERVERS)] for i in range(given.topologies)}
    loads = [64] if given.soak else [round(8 * 2 ** (7 * i / max(1, given.steps - 1))) for i in range(given.steps)]
    hold_s = hold_for(given.requests, given.repeats, servers, loads, given.tokens)
    with tempfile.TemporaryDirectory(prefix="loadstair-bench-") as parent:
        folder = RunFolder.create(Path(parent), "bench", datetime.now(UTC))
        # In a process of its own: a child's memory at most begins with what its parent had when it was made.
        writing = multiprocessing.get_context("spawn").Process(
            target=write_run, args=(folder.path, given, servers, loads, hold_s)
        )
        writing.start()
        writing.join()
        if writing.exitcode:
            sys.exit("the run could not be written")
        report(folder, profile=given.profile)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="about as many")
    parser.add_argument("--tokens", type=int, default=256, help="of a response, on average")
    parser.add_argument("--topologies", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--soak", action="store_true", help="one long step of 64 users")
    parser.add_argument("--chunk-tokens", action="store_true", help="the server counts the tokens of every chunk")
    parser.add_argument("--profile", action="store_true", help="print what cProfile says of the child")
    return parser.parse_args()


def hold_for(requests: int, repeats: int, servers: dict[str, Server], loads: list[int], tokens: int) -> float:
    per_s = sum(users / server.e2e_s(users, tokens) for server in servers.values() for users in loads)
    return max(5.0, requests / repeats / per_s - WARMUP_S)


def write_run(
    path: Path, given: argparse.Namespace, servers: dict[str, Server], loads: list[int], hold_s: float
) -> None:
    begun_s = time.monotonic()
    folder = RunFolder(path)
    plan = plan_of(servers, loads, given, hold_s)
    folder.write_text(folder.plan_path, plan_yaml(plan))
    rng = np.random.default_rng(plan.seed)
    visits: list[VisitRecord] = []
    at_ns = START_NS
    for repeat in range(given.repeats):
        for name in servers if repeat % 2 == 0 else reversed(list(servers)):
            visits.append(write_visit(folder, len(visits), repeat, name, servers[name], plan, given, at_ns, rng))
            at_ns = visits[-1].steps[-1].tail_end_ns + 30 * NS_PER_S
    folder.write_run(
        RunRecord(
            name=plan.name,
            started="2027-01-15T08:00:00+00:00",
            loadstair_version="0",
            command="bench/analysis.py",
            quick=False,
            seed=plan.seed,
            versions={},
            host={},
            topologies={name: {"kind": "external"} for name in servers},
            visits=tuple(visits),
            ending=Ending.COMPLETE,
        )
    )
    requests = sum(step.counters.started for visit in visits for step in visit.steps)
    tokens = sum(visit.server_after.output_tokens or 0 for visit in visits if visit.server_after is not None)
    size_mb = sum(part.stat().st_size for part in folder.samples_path.iterdir()) / 1e6
    print(
        f"{requests:,} requests, {tokens:,.0f} tokens; {given.topologies} topologies × {given.repeats} repeats × "
        f"{len(loads)} steps of {hold_s:,.0f} s; {size_mb:,.0f} MB, written in {time.monotonic() - begun_s:.0f} s",
        flush=True,
    )


def plan_of(servers: dict[str, Server], loads: list[int], given: argparse.Namespace, hold_s: float) -> Plan:
    gpus = {"type": "h100-sxm", "count": 4, "usd_per_hour": 2.5}
    raw = {
        "name": "bench",
        "seed": 7,
        "workload": {
            "model": "Qwen/Qwen2.5-32B-Instruct",
            "input_tokens": {"mean": 512, "cv": 0.2},
            "output_tokens": {"mean": given.tokens, "cv": 0.1},
        },
        "load": {
            "steps": loads,
            "warmup_s": WARMUP_S,
            "hold_s": hold_s,
            "repeats": given.repeats,
            "shape": "soak" if given.soak else "staircase",
        },
        "topologies": [
            {"name": name, "kind": "external", "url": "http://127.0.0.1:1", "gpus": gpus} for name in servers
        ],
        "slo": {"ttft_ms_p99": 1000, "itl_ms_p99": 100, "tpot_ms_p90": 50, "e2e_s_p90": 20},
    }
    return parse_plan(raw, "bench.yaml")


def write_visit(
    folder: RunFolder,
    visit: int,
    repeat: int,
    name: str,
    server: Server,
    plan: Plan,
    given: argparse.Namespace,
    at_ns: int,
    rng: np.random.Generator,
) -> VisitRecord:
    drift = float(np.exp(rng.normal(0, 0.01)))
    steps = []
    finished, tokens = 0, 0
    for step, users in enumerate(map(int, plan.load.steps)):
        hold_start_ns = at_ns + ns_from_s(WARMUP_S)
        hold_end_ns = hold_start_ns + ns_from_s(plan.load.hold_s)
        made = Requests.of_step(server, drift, users, given.tokens, at_ns, hold_end_ns, rng)
        table = made.table(visit, name, repeat, step, users, hold_start_ns, chunk_tokens=given.chunk_tokens)
        folder.write_samples(visit, step, table)
        failed = int(made.failed.sum())
        finished += len(made.sent_ns) - failed
        tokens += int(made.lengths[~made.failed].sum())
        steps.append(
            StepRecord(
                step=step,
                load=float(users),
                start_ns=at_ns,
                hold_start_ns=hold_start_ns,
                hold_end_ns=hold_end_ns,
                tail_end_ns=int(made.end_ns.max()) + NS_PER_MS,
                tail_complete=True,
                workers=WORKERS,
                workers_lost=(),
                counters=Counters(started=len(made.sent_ns), ok=len(made.sent_ns) - failed, failed=failed, killed=0),
            )
        )
        at_ns = steps[-1].tail_end_ns
    nothing = ServerCounters(requests_finished=0.0, output_tokens=0.0, input_tokens=None)
    after = ServerCounters(requests_finished=float(finished), output_tokens=float(tokens), input_tokens=None)
    return VisitRecord(
        visit=visit,
        topology=name,
        repeat=repeat,
        steps=tuple(steps),
        server_before=nothing,
        server_after=after,
        drained=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Of one step, in the order of their ends, as a recorder writes them."""

    sent_ns: IntArray
    end_ns: IntArray
    failed: npt.NDArray[np.bool_]
    user: IntArray
    lengths: IntArray
    """Arrivals; 0 for a failed request."""
    arrivals_ns: IntArray
    """Flat, request after request."""

    @classmethod
    def of_step(
        cls,
        server: Server,
        drift: float,
        users: int,
        tokens: int,
        start_ns: int,
        hold_end_ns: int,
        rng: np.random.Generator,
    ) -> "Requests":
        """Each user sends one request after the other until the hold has ended."""
        e2e_ns = server.e2e_s(users, tokens) * drift * NS_PER_S
        rounds = int((hold_end_ns - start_ns) / e2e_ns * 1.2) + 3
        count = users * rounds
        lengths = np.maximum(2, rng.normal(tokens, 0.1 * tokens, count)).round().astype(np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        # All times slow down and recover together, as a batch does; every gap scatters by itself.
        slowed = server.slowed(users) * drift
        wave = np.repeat(np.exp(rng.normal(0, 0.05, count)).astype(np.float32), lengths)
        gaps = rng.standard_normal(int(ends[-1]), dtype=np.float32) * np.float32(0.15) + 1
        gaps *= wave * np.float32(server.itl_ms * slowed * NS_PER_MS)
        stalled = rng.integers(0, len(gaps), int(len(gaps) * STALLED_SHARE))
        gaps[stalled] += rng.exponential(400 * NS_PER_MS, len(stalled)).astype(np.float32)
        gaps[starts] = rng.lognormal(np.log(server.ttft_ms * slowed * NS_PER_MS), 0.25, count)
        gap_ns = np.maximum(1000, gaps).astype(np.int64)
        since_start_ns = np.cumsum(gap_ns)
        before_ns = since_start_ns[starts] - gap_ns[starts]
        took_ns = since_start_ns[ends - 1] - before_ns + NS_PER_MS  # a user's pause
        by_user = took_ns.reshape(users, rounds)
        begun = start_ns + (rng.uniform(0, e2e_ns, users).astype(np.int64))[:, None]
        sent = (begun + np.cumsum(by_user, axis=1) - by_user).ravel()
        failed = rng.uniform(size=count) < FAILED_SHARE
        end = np.where(failed, sent + 2 * NS_PER_MS, sent + took_ns - NS_PER_MS)
        rows = np.flatnonzero(sent < hold_end_ns)
        rows = rows[np.argsort(end[rows], kind="stable")]
        kept = np.where(failed, 0, lengths)[rows]
        flat = np.arange(kept.sum()) + np.repeat(starts[rows] - np.cumsum(kept) + kept, kept)
        arrivals = since_start_ns[flat] + np.repeat(sent[rows] - before_ns[rows], kept)
        return cls(
            sent_ns=sent[rows],
            end_ns=end[rows],
            failed=failed[rows],
            user=rows // rounds,
            lengths=kept,
            arrivals_ns=arrivals,
        )

    def table(
        self, visit: int, name: str, repeat: int, step: int, users: int, hold_start_ns: int, *, chunk_tokens: bool
    ) -> pa.Table:
        count = len(self.sent_ns)
        offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        last = np.maximum(0, offsets[1:] - 1)
        arrivals = self.arrivals_ns if len(self.arrivals_ns) else np.zeros(1, np.int64)

        def unless_failed(values: IntArray, type_: pa.DataType) -> pa.Array:
            return pa.array(values, type_, mask=self.failed)

        def chosen(names: tuple[str, str], which: npt.NDArray[np.bool_]) -> pa.Array:
            return pa.array(np.array(names, dtype=object)[which.astype(np.int64)], pa.string())

        index = np.arange(count)
        columns: dict[str, object] = {
            "request_id": [f"{visit:03d}-{step:02d}-{i:08x}" for i in range(count)],
            "visit": np.full(count, visit),
            "topology": [name] * count,
            "repeat": np.full(count, repeat),
            "step": np.full(count, step),
            "load": np.full(count, float(users)),
            "phase": chosen(("warmup", "hold"), self.sent_ns >= hold_start_ns),
            "worker": chosen(WORKERS, self.user % 2 == 1),
            "index": index,
            "dispatch_ns": self.sent_ns - 60_000,
            "sent_ns": self.sent_ns,
            "headers_ns": unless_failed(arrivals[np.minimum(offsets[:-1], len(arrivals) - 1)] - 1_000, pa.int64()),
            "first_token_ns": unless_failed(arrivals[np.minimum(offsets[:-1], len(arrivals) - 1)], pa.int64()),
            "last_token_ns": unless_failed(arrivals[last], pa.int64()),
            "end_ns": self.end_ns,
            "arrivals": pa.ListArray.from_arrays(offsets.astype(np.int32), self.arrivals_ns),
            "output_tokens": unless_failed(self.lengths, pa.int32()),
            "input_tokens": unless_failed(np.full(count, 512), pa.int32()),
            "output_tokens_asked": np.maximum(1, self.lengths),
            "input_tokens_asked": np.full(count, 512),
            "outcome": chosen(("ok", "http_error"), self.failed),
            "status": np.where(self.failed, 503, 200),
            "error": pa.array(np.where(self.failed, "503 Service Unavailable", None), pa.string()),
            "finish_reason": pa.array(np.where(self.failed, None, "length"), pa.string()),
            "upstream": chosen(("127.0.0.1:9000", "127.0.0.1:9001"), self.user % 2 == 0),
            "read_lag_ns": 40_000 + index % 50_000,
            "bunched": np.zeros(count, np.int32),
            "bunched_late": np.zeros(count, np.int32),
            "late_reads": np.zeros(count, np.int32),
            "clock": ["kernel"] * count,
            "clock_step": np.zeros(count, bool),
        }
        if chunk_tokens:
            ones = np.ones(len(self.arrivals_ns), np.int32)
            columns["chunk_tokens"] = pa.ListArray.from_arrays(offsets.astype(np.int32), ones)
        arrays = []
        for field in SAMPLE_SCHEMA:
            values = columns.get(field.name)
            made = pa.nulls(count, field.type) if values is None else values
            arrays.append(made.cast(field.type) if isinstance(made, pa.Array) else pa.array(made, field.type))
        return pa.table(arrays, schema=SAMPLE_SCHEMA)


def report(folder: RunFolder, *, profile: bool) -> None:
    profiled = ["-m", "cProfile", "-s", "tottime"] if profile else []
    command = [sys.executable, *profiled, "-m", "loadstair", "analyze", str(folder.path)]
    begun_s = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        _, status, used = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - begun_s
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if child.returncode not in (0, 4, 99):  # 4 and 99 are verdicts
        sys.exit(f"analyze ended with {child.returncode}: {text[-2000:]}")
    for line in said(text, profiled=profile):
        print(line)
    print(f"  wall              {wall_s:.1f} s")
    print(f"  CPU               {used.ru_utime + used.ru_stime:.1f} s ({used.ru_utime:.1f} user)")
    print(f"  memory at most    {used.ru_maxrss * 1024 / 1e9:.2f} GB")  # Linux tells KiB


def said(stdout: str, *, profiled: bool) -> Iterator[str]:
    """The table's lines are for a reader of the run; only a profile is shown."""
    if profiled:
        lines = stdout.splitlines()
        first = next((i for i, line in enumerate(lines) if "function calls" in line), 0)
        yield from lines[first : first + 45]


if __name__ == "__main__":
    main()
