"""What a token costs a client, and how true its times are: clients side by side against one native paced server.

    python bench/generator.py [--streams 16 64 128 512] [--gap-ms 20] [--tokens 100] [--seconds 8]
    python bench/generator.py --saturated --streams 16 --tokens 256
    python bench/generator.py --streams 512 --tokens 1000 --only ours      (memory of long streams)
    python bench/generator.py --peers --tokenizer DIR [--aiperf PATH …]    (other tools, where installed)

Each client is a process pinned to one core; the server and this program have another. Imports and warm-up are in no
figure. Errors are what the client reported minus what the server counted in the same seconds. CPU a token is that of
the client's process; `ours` does all that a worker does, recording included. --saturated: the server sends as fast as
the sockets take it, and the rate is tokens per second of the client's CPU.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import peers

from loadstair.calibrate.compiler import built
from loadstair.calibrate.paced import PacedServer, Truth

HERE: Final = Path(__file__).parent
NAMES: Final = {
    "ours": "Loadstair",
    "openai": "openai SDK under gevent",
    "socket": "bare gevent socket",
    "native": "native client (C)",
}
TTFT_MS: Final = 50.0
LATENESS_TOLD_NS: Final = 1_000_000
RECORDING_LEFT_RATIO: Final = 1.1
END_S_MAX: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    client: str
    streams: int
    offered_per_s: float | None
    """None: saturated."""
    said: dict[str, Any]
    truth: Truth

    @property
    def tokens_per_s(self) -> float:
        return float(self.said["tokens"] / self.said["elapsed_s"])

    @property
    def tokens_per_cpu_s(self) -> float:
        return float(self.said["tokens"] / self.said["cpu_s"])

    @property
    def cpu_us_a_token(self) -> float:
        return 1e6 / self.tokens_per_cpu_s

    def error_ms(self, kind: str, share: str) -> float | None:
        told, true = self.said[kind][share], getattr(getattr(self.truth, kind), share)
        return None if told is None or true is None else (told - true) / 1e6


def main() -> None:
    options = arguments()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for the client")
    os.sched_setaffinity(0, {cores[0]})
    native = built(HERE / "native_client.c")
    if native is None:
        sys.exit("the server and the native client need Linux and a C compiler (cc, gcc or clang)")
    results: list[Result] = []
    for streams in options.streams:
        ratio_base: Result | None = None
        if not options.only:
            break
        print(f"\n## {streams} streams, {describe(options)}\n\n{HEADER}", flush=True)
        for client in options.only:
            result = measured(client, streams, options, native=native, core=cores[-1])
            ratio_base = ratio_base or (result if client == "ours" else None)
            print(line(result, ratio_base), flush=True)
            results.append(result)
        print(*warnings(results[-len(options.only) :]), sep="\n")
    rows = [row(result) for result in results]
    if options.peers is not None:
        rows += peers.compare(options, core=cores[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 64, 128, 512])
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=100, help="a response")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured, after the warm-up")
    parser.add_argument("--warmup", type=float, default=5.0)
    parser.add_argument("--saturated", action="store_true", help="no pause between tokens, nor before the first")
    parser.add_argument(
        "--only", nargs="*", choices=NAMES, default=list(NAMES), help="without a name: no client of these"
    )
    parser.add_argument("--json", type=Path, help="all figures, as a file")
    peers.add_arguments(parser)
    options = parser.parse_args()
    if options.saturated:
        options.gap_ms = 0.0
    return options


def describe(options: argparse.Namespace) -> str:
    pace = "saturated" if options.saturated else f"{options.gap_ms:g} ms apart, first token after {TTFT_MS:g} ms"
    return f"{options.tokens} tokens a response, {pace}, {options.seconds:g} s"


def measured(client: str, streams: int, options: argparse.Namespace, *, native: Path, core: int) -> Result:
    with PacedServer(ttft_ms=0 if options.saturated else TTFT_MS, gap_ms=options.gap_ms) as server:
        said, truth = run_client(command(client, server.url, streams, options, native), server, core)
    if not said["tokens"]:
        sys.exit(f"{NAMES[client]}: no token came; {said['failed']} requests failed")
    period_s = (TTFT_MS + (options.tokens - 1) * options.gap_ms) / 1e3
    offered = None if options.saturated else streams * options.tokens / period_s
    return Result(client=client, streams=streams, offered_per_s=offered, said=said, truth=truth)


def command(client: str, url: str, streams: int, options: argparse.Namespace, native: Path) -> list[str]:
    if client == "native":
        words = [native, url.rpartition(":")[2], streams, options.tokens, options.warmup, options.seconds]
    else:
        times = ["--warmup", options.warmup, "--seconds", options.seconds]
        words = [sys.executable, HERE / "clients.py", client, "--url", url]
        words += ["--streams", streams, "--tokens", options.tokens, *times]
    return [str(word) for word in words]


def run_client(words: list[str], server: PacedServer, core: int) -> tuple[dict[str, Any], Truth]:
    """What it said, and what the server counted in the same seconds."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=pin) as process:
        assert process.stdout is not None
        try:
            wait_for(process.stdout, "measuring")
            server.reset()
            wait_for(process.stdout, "measured")
            truth = server.truth()
            said = json.loads(process.stdout.readline())
            process.wait(timeout=END_S_MAX)
        finally:
            process.kill()
    return said, truth


def wait_for(lines: Any, word: str) -> None:
    line = lines.readline()
    if line.strip() != word:
        sys.exit(f"the client should have said {word!r}, not {line.strip()!r}")


HEADER = (
    "| client | tokens/s | of offered | tokens/s a core | CPU a token, µs | × ours | TTFT error p50 / p99, ms "
    "| ITL error p50 / p99, ms | bunched | KB a stream |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(result: Result, ours: Result | None) -> str:
    share = "–" if result.offered_per_s is None else f"{result.tokens_per_s / result.offered_per_s:.1%}"
    ratio = "–" if ours is None else f"{result.cpu_us_a_token / ours.cpu_us_a_token:.2f}"
    growth = result.said.get("rss_growth_bytes")
    memory = "–" if growth is None or result.offered_per_s is None else f"{growth / result.streams / 1e3:.0f}"
    errors = [
        " / ".join(told(result.error_ms(kind, percentile)) for percentile in ("p50_ns", "p99_ns"))
        for kind in ("ttft", "itl")
    ]
    if result.offered_per_s is None:
        errors = ["–", "–"]  # requests wait in a server that has no time to spare: that is no client's error
    cells = [
        NAMES[result.client],
        f"{result.tokens_per_s:,.0f}",
        share,
        f"{result.tokens_per_cpu_s:,.0f}",
        f"{result.cpu_us_a_token:.1f}",
        ratio,
        *errors,
        f"{result.said['bunched'] / max(1, result.said['tokens']):.2%}",
        memory,
    ]
    return f"| {' | '.join(cells)} |"


def told(error_ms: float | None) -> str:
    return "–" if error_ms is None else f"{error_ms:+.2f}"


def warnings(results: list[Result]) -> list[str]:
    """What makes these figures worth less."""
    found = []
    for result in results:
        name, late = NAMES[result.client], result.truth.late.p99_ns
        if result.offered_per_s is not None and late is not None and late > LATENESS_TOLD_NS:
            found.append(f"{name}: the server itself was {late / 1e6:.1f} ms late (p99): is its core shared?")
        if result.truth.held_up:
            found.append(f"{name}: {result.truth.held_up:,} tokens waited for the client to read")
        last_cpu_s, last_tokens = (result.said.get(f"{of}_to_last_record") for of in ("cpu_s", "tokens"))
        if (
            last_cpu_s
            and last_cpu_s / last_tokens > RECORDING_LEFT_RATIO * result.said["cpu_s"] / result.said["tokens"]
        ):
            us = last_cpu_s / last_tokens * 1e6
            found.append(f"{name}: {us:.1f} µs a token up to the last record: it had put off some of its work")
        if result.said["failed"]:
            found.append(f"{name}: {result.said['failed']:,} requests failed")
    return ["", *found] if found else []


def row(result: Result) -> dict[str, Any]:
    return {
        "client": result.client,
        "streams": result.streams,
        "offered_per_s": result.offered_per_s,
        "tokens_per_s": result.tokens_per_s,
        "cpu_us_a_token": result.cpu_us_a_token,
        "said": result.said,
        "truth": asdict(result.truth),
    }


if __name__ == "__main__":
    main()
