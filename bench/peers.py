"""Other load generators against the same paced server, by their own command lines: `bench/generator.py --peers`.

Each runs on one core, its child processes too. Its times are its own words on the whole run. Rate and CPU a token are
those of its middle: from when the server has sent a round's tokens to when it has sent nearly all, so that start,
imports, the first round and the writing of the report are in neither.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from loadstair.calibrate.paced import PacedServer

RUN_S_MAX: Final = 400.0
SATURATED_TOKENS: Final = 300_000
LOOK_S: Final = 0.2
MIDDLE_SHARE: Final = 0.95
LOG_LINES: Final = 5
TTFT_MS: Final = 50.0
INPUT_TOKENS: Final = 16
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    url: str
    streams: int
    tokens: int
    requests: int
    tokenizer: Path
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A tool's own words, in ms."""

    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    itl: str
    """What it means by the figure that comes closest to ITL."""
    command: Callable[[str, Job], list[str]]
    read: Callable[[Path], Told]
    environment: dict[str, str]


def aiperf_command(program: str, job: Job) -> list[str]:
    words = f"{program} profile --model paced --url {job.url} --endpoint-type chat --streaming --ui simple"
    words += f" --concurrency {job.streams} --request-count {job.requests} --tokenizer {job.tokenizer}"
    words += f" --synthetic-input-tokens-mean {INPUT_TOKENS} --output-tokens-mean {job.tokens}"
    return [*words.split(), "--extra-inputs", "ignore_eos:true", "--artifact-dir", str(job.folder)]


def aiperf_told(folder: Path) -> Told:
    report = json.loads((folder / "profile_export_aiperf.json").read_text())
    ttft, itl = report["time_to_first_token"], report["inter_chunk_latency"]
    rate = report["output_token_throughput"]["avg"]
    return Told(ttft_p50=ttft["p50"], ttft_p99=ttft["p99"], itl_p50=itl["p50"], itl_p99=itl["p99"], tokens_per_s=rate)


def guidellm_command(program: str, job: Job) -> list[str]:
    words = f"{program} run --disable-console --profile kind=concurrent,streams={job.streams}"
    words += f" --backend kind=openai_http,target={job.url},model=paced,request_format=/v1/chat/completions"
    words += (
        f" --constraint kind=max_requests,count={job.requests} --tokenizer kind=huggingface_auto,model={job.tokenizer}"
    )
    words += f" --data kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={job.tokens}"
    return f"{words} --output kind=json,path={job.folder / 'report.json'}".split()


def guidellm_told(folder: Path) -> Told:
    metrics = json.loads((folder / "report.json").read_text())["benchmarks"][0]["metrics"]
    ttft, itl = (
        metrics[name]["successful"]["percentiles"] for name in ("time_to_first_token_ms", "inter_token_latency_ms")
    )
    rate = metrics["output_tokens_per_second"]["successful"]["mean"]
    return Told(ttft_p50=ttft["p50"], ttft_p99=ttft["p99"], itl_p50=itl["p50"], itl_p99=itl["p99"], tokens_per_s=rate)


def genai_bench_command(program: str, job: Job) -> list[str]:
    words = f"{program} benchmark --api-backend openai --api-base {job.url} --api-key none --api-model-name paced"
    words += f" --model-tokenizer {job.tokenizer} --task text-to-text --metrics-time-unit ms --max-time-per-run 5"
    words += f" --num-concurrency {job.streams} --max-requests-per-run {job.requests} --log-dir {job.folder}"
    words += f" --traffic-scenario D({INPUT_TOKENS},{job.tokens}) --experiment-base-dir {job.folder}"
    words += " --experiment-folder-name report --additional-request-params"
    return [*words.split(), '{"ignore_eos": true}']


def genai_bench_told(folder: Path) -> Told:
    (path,) = (folder / "report").glob("D*.json")
    metrics = json.loads(path.read_text())["aggregated_metrics"]
    ttft, tpot = metrics["stats"]["ttft"], metrics["stats"]["tpot"]
    rate = metrics["mean_output_throughput_tokens_per_s"]
    return Told(ttft_p50=ttft["p50"], ttft_p99=ttft["p99"], itl_p50=tpot["p50"], itl_p99=tpot["p99"], tokens_per_s=rate)


def vllm_command(program: str, job: Job) -> list[str]:
    words = f"{program} bench serve --backend openai-chat --base-url {job.url} --endpoint /v1/chat/completions"
    words += f" --model paced --tokenizer {job.tokenizer} --dataset-name random --random-input-len {INPUT_TOKENS}"
    words += f" --random-output-len {job.tokens} --num-prompts {job.requests} --max-concurrency {job.streams}"
    words += " --ignore-eos --percentile-metrics ttft,itl --metric-percentiles 50,99 --disable-tqdm --save-result"
    return f"{words} --result-dir {job.folder} --result-filename report.json".split()


def vllm_told(folder: Path) -> Told:
    report = json.loads((folder / "report.json").read_text())
    return Told(
        ttft_p50=report["p50_ttft_ms"],
        ttft_p99=report["p99_ttft_ms"],
        itl_p50=report["p50_itl_ms"],
        itl_p99=report["p99_itl_ms"],
        tokens_per_s=report["output_throughput"],
    )


PEERS: Final = {
    # Offline, AIPerf takes a tokenizer's path for the name of a repository.
    "aiperf": Peer(name="AIPerf", itl="every gap", command=aiperf_command, read=aiperf_told, environment={}),
    "guidellm": Peer(
        name="GuideLLM", itl="a request's mean", command=guidellm_command, read=guidellm_told, environment=OFFLINE
    ),
    "genai-bench": Peer(
        name="genai-bench", itl="TPOT", command=genai_bench_command, read=genai_bench_told, environment=OFFLINE
    ),
    "vllm": Peer(name="vllm bench serve", itl="every gap", command=vllm_command, read=vllm_told, environment=OFFLINE),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, metavar="NAME", help=f"of {', '.join(PEERS)}; default: all"
    )
    parser.add_argument("--tokenizer", type=Path, help="a folder with one: the other tools need it, any will do")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="PATH", default=shutil.which(name), help="its program")


def compare(options: argparse.Namespace, *, core: int) -> list[dict[str, Any]]:
    """Prints a table for each number of streams; all figures are returned."""
    if options.tokenizer is None:
        sys.exit("--peers: --tokenizer: the other tools need a folder with a tokenizer")
    programs = {name: vars(options)[name.replace("-", "_")] for name in options.peers or PEERS}
    for name, program in programs.items():
        if program is None:
            print(f"\n{PEERS[name].name} is missing: not on the PATH, and no --{name} PATH")
    rows = []
    for streams in options.streams:
        print(f"\n## other tools, {streams} streams of {options.tokens} tokens\n\n{HEADER}", flush=True)
        for name, program in programs.items():
            if program is not None:
                row = measured(PEERS[name], program, streams, options, core=core)
                print(line(PEERS[name], row), flush=True)
                rows.append(row)
    return rows


def measured(peer: Peer, program: str, streams: int, options: argparse.Namespace, *, core: int) -> dict[str, Any]:
    """Without `told` where the tool failed, which is printed."""
    period_s = (TTFT_MS + (options.tokens - 1) * options.gap_ms) / 1e3
    wanted = options.seconds / period_s if options.gap_ms else SATURATED_TOKENS / options.tokens / streams
    round_tokens, rounds = streams * options.tokens, 2 + max(2, round(wanted))
    row = {
        "client": peer.name,
        "streams": streams,
        "offered_per_s": round_tokens / period_s if options.gap_ms else None,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        PacedServer(ttft_ms=TTFT_MS if options.gap_ms else 0, gap_ms=options.gap_ms) as server,
    ):
        job = Job(
            url=server.url,
            streams=streams,
            tokens=options.tokens,
            requests=streams * rounds,
            tokenizer=options.tokenizer.resolve(),
            folder=Path(folder),
        )
        log = Path(folder) / "log.txt"
        looks = run(peer, peer.command(program, job), log, server=server, core=core)
        try:
            told, truth = peer.read(job.folder), server.truth()
        except (OSError, ValueError, KeyError, TypeError) as error:
            end = "\n    ".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            print(f"{peer.name} left no report ({error!r}); the end of its log:\n    {end}", file=sys.stderr)
            return row
    middle = [look for look in looks if round_tokens <= look.tokens <= MIDDLE_SHARE * round_tokens * rounds]
    if len(middle) < 2 or middle[-1].tokens == middle[0].tokens:
        print(f"{peer.name}: too short to tell its rate", file=sys.stderr)
        return row
    tokens, cpu_s = middle[-1].tokens - middle[0].tokens, middle[-1].cpu_s - middle[0].cpu_s
    rates = {"tokens_per_s": tokens / (middle[-1].at_s - middle[0].at_s), "cpu_us_a_token": cpu_s / tokens * 1e6}
    return {**row, **rates, "told": asdict(told), "truth": asdict(truth)}


@dataclass(frozen=True, slots=True)
class Look:
    at_s: float
    tokens: int
    """Sent by the server until then."""
    cpu_s: float
    """Of the program and all that it started."""


def run(peer: Peer, words: list[str], log: Path, *, server: PacedServer, core: int) -> list[Look]:
    """What was seen while it ran. Killed after RUN_S_MAX."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})

    with log.open("wb") as out:
        process = psutil.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **peer.environment},
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=pin,
        )
    looks = []
    end_s = time.monotonic() + RUN_S_MAX
    try:
        while process.poll() is None and time.monotonic() < end_s:
            looks.append(Look(time.monotonic(), server.truth().tokens, tree_cpu_s(process)))
            time.sleep(LOOK_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return looks


def tree_cpu_s(process: psutil.Popen) -> float:
    """Those that have ended are in their parents' figures, once these have waited for them."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])  # own user and system time, and that of its ended children
    return total


HEADER = (
    "| tool | tokens/s | of offered | it says | tokens/s a core | CPU a token, µs | TTFT p50 / p99, ms: it says (true) "
    "| its ITL p50 / p99, ms: it says (true) | its ITL is |\n|---|---|---|---|---|---|---|---|---|"
)


def line(peer: Peer, row: dict[str, Any]) -> str:
    if "told" not in row:
        return f"| {peer.name} | failed | | | | | | | |"
    told, truth, cpu_us, offered = row["told"], row["truth"], row["cpu_us_a_token"], row["offered_per_s"]
    times = [
        " / ".join(
            f"{told[f'{kind}_{share}']:.1f} ({truth[kind][f'{share}_ns'] / 1e6:.1f})" for share in ("p50", "p99")
        )
        for kind in ("ttft", "itl")
    ]
    cells = [
        peer.name,
        f"{row['tokens_per_s']:,.0f}",
        "–" if offered is None else f"{row['tokens_per_s'] / offered:.1%}",
        f"{told['tokens_per_s']:,.0f}",
        f"{1e6 / cpu_us:,.0f}",
        f"{cpu_us:.1f}",
        *times,
        peer.itl,
    ]
    return f"| {' | '.join(cells)} |"
