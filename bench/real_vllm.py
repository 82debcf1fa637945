"""The client against a real vLLM's own books, and against `vllm bench serve` on the same server.

    python bench/real_vllm.py --url http://127.0.0.1:8000 --model NAME [--metrics URL …] [--users 1 4 8] [--hold 20]
                              [--stamps FILE …] [--vllm PATH --tokenizer DIR]

For each load: `loadstair run` on an `external` topology, with vLLM's /metrics read before and after. The first table
holds all requests of the run against the sums that vLLM counted meanwhile. With --stamps (see bench/vllm_stamps.py) a
second one splits TTFT into what lies before, inside and behind vLLM's web server. With --vllm, `vllm bench serve` asks
the same server for the same lengths at the same concurrency, and the last table has both clients' words side by side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families

from loadstair.fetch import fetch

Sums = dict[str, float]
TEMPLATE_TOKENS = 12
"""What the tiny model's chat template adds to a prompt: `vllm bench serve` counts its prompt without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What one run of ours saw of all its requests that ended well, and of the step's hold alone (`step`)."""

    rows: pd.DataFrame
    gaps_ms: npt.NDArray[np.float64]
    step: dict[str, Any]


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        for users in options.users:
            print(f"\n## {users} users")
            client, counted = counting(options.metrics, lambda users=users: measured(Path(folder), options, users))
            print_books(client, counted)
            if options.stamps:
                print_stamps(client, options.stamps)
            if options.vllm:
                requests = max(200, round(client.step["requests_per_s"]["value"] * options.hold))
                bench, counted = counting(
                    options.metrics, lambda users=users, n=requests: vllm_bench(Path(folder), options, users, n)
                )
                print_side_by_side(client, bench, counted)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--metrics", nargs="+", default=[], help="default: URL/metrics")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--input-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--hold", type=float, default=20.0)
    parser.add_argument("--temperature", type=float, default=0.0, help="of both clients")
    parser.add_argument("--stamps", type=Path, nargs="+", default=[])
    parser.add_argument("--vllm", type=Path, help="the vllm program whose `bench serve` is to run, too")
    parser.add_argument("--tokenizer", type=Path)
    options = parser.parse_args()
    options.metrics = options.metrics or [f"{options.url}/metrics"]
    return options


def counting(pages: list[str], job: Callable[[], Any]) -> tuple[Any, Sums]:
    """The job's result, and by how much vLLM's counters grew meanwhile, over all pages."""
    before = sums(pages)
    result = job()
    after = sums(pages)
    return result, {name: value - before.get(name, 0.0) for name, value in after.items()}


def sums(pages: list[str]) -> Sums:
    total: Sums = {}
    for page in pages:
        for family in text_string_to_metric_families(fetch(page, timeout_s=10).text()):
            for sample in family.samples:
                if sample.name.startswith("vllm:") and not sample.name.endswith(("_bucket", "_created")):
                    total[sample.name] = total.get(sample.name, 0.0) + sample.value
    return total


def measured(folder: Path, options: argparse.Namespace, users: int) -> Client:
    plan = {
        "name": f"users-{users}",
        "workload": {
            "model": options.model,
            "input_tokens": {"mean": options.input_tokens, "cv": 0.15},
            "output_tokens": {"mean": options.output_tokens, "cv": 0.15},
            "temperature": options.temperature,
        },
        "load": {"steps": [users], "warmup_s": 5, "hold_s": options.hold},
        "topologies": [{"name": "vllm", "kind": "external", "url": options.url, "metrics": options.metrics}],
    }
    path = folder / f"users-{users}.yaml"
    path.write_text(json.dumps(plan), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "loadstair", "run", str(path), "--out", str(folder), "--quiet"]
    subprocess.run(command, check=False)  # an invalid step has numbers, too: its reasons are printed
    (run,) = folder.glob(f"users-{users}-*")
    rows = pq.read_table(run / "samples").to_pandas()
    rows = rows[rows.outcome == "ok"]
    (step,) = json.loads((run / "summary.json").read_text(encoding="utf-8"))["topologies"]["vllm"]["steps"]
    return Client(rows=rows, gaps_ms=np.concatenate([np.diff(one) for one in rows.arrivals]) / 1e6, step=step)


def print_books(client: Client, counted: Sums) -> None:
    rows = client.rows
    ttft_ms = (rows.first_token_ns - rows.sent_ns).to_numpy(dtype=float) / 1e6
    e2e_ms = (rows.last_token_ns - rows.sent_ns).to_numpy(dtype=float) / 1e6
    decode_ms = (rows.last_token_ns - rows.first_token_ns).to_numpy(dtype=float) / 1e6
    tpot_ms = decode_ms / (rows.output_tokens.to_numpy(dtype=float) - 1)
    lines: list[tuple[str, float, float | None]] = [
        ("requests", len(rows), counted["vllm:request_success_total"]),
        ("prompt tokens", rows.input_tokens.sum(), counted["vllm:prompt_tokens_total"]),
        ("output tokens", rows.output_tokens.sum(), counted["vllm:generation_tokens_total"]),
        ("gaps between tokens", len(client.gaps_ms), counted["vllm:inter_token_latency_seconds_count"]),
        ("mean ITL, ms", client.gaps_ms.mean(), mean_ms(counted, "inter_token_latency_seconds")),
        ("mean TPOT, ms", tpot_ms.mean(), mean_ms(counted, "request_time_per_output_token_seconds")),
        ("mean decode, ms", decode_ms.mean(), mean_ms(counted, "request_decode_time_seconds")),
        ("mean e2e, ms", e2e_ms.mean(), mean_ms(counted, "e2e_request_latency_seconds")),
        ("mean TTFT, ms", ttft_ms.mean(), mean_ms(counted, "time_to_first_token_seconds")),
    ]
    step = client.step
    late = rows.bunched_late.sum() / rows.output_tokens.sum()
    print(f"step: {step['verdict']}{''.join(' ' + reason['id'] for reason in step['reasons'])}; late reads {late:.2%}")
    print_table(("whole run", "client", "vLLM's /metrics", "difference"), [with_share(*line) for line in lines])


def mean_ms(counted: Sums, histogram: str) -> float | None:
    n = counted.get(f"vllm:{histogram}_count", 0.0)
    return counted[f"vllm:{histogram}_sum"] / n * 1e3 if n else None


def print_stamps(client: Client, files: list[Path]) -> None:
    stamped = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            request_id, entry_ns, chunks_ns = json.loads(line)
            stamped[request_id] = (entry_ns, chunks_ns)
    rows = client.rows[client.rows.request_id.isin(stamped)]
    entry = np.array([stamped[key][0] for key in rows.request_id])
    first = np.array([stamped[key][1][0] for key in rows.request_id])
    parts = {
        "sent → vLLM's web server": entry - rows.sent_ns.to_numpy(dtype=np.int64),
        "inside, to the first chunk": first - entry,
        "first chunk → our kernel's stamp": rows.first_token_ns.to_numpy(dtype=np.int64) - first,
    }
    lines = [
        (name, f"{ns.mean() / 1e6:.3f}", f"{np.median(ns) / 1e6:.3f}", f"{np.percentile(ns, 99) / 1e6:.3f}")
        for name, ns in parts.items()
    ]
    print_table((f"of {len(rows)} requests, ms", "mean", "p50", "p99"), lines)
    chunks = sum(len(stamped[key][1]) for key in rows.request_id)
    print(f"chunks with text: vLLM handed out {chunks}, the client stamped {sum(map(len, rows.arrivals))}")


def vllm_bench(folder: Path, options: argparse.Namespace, users: int, requests: int) -> dict[str, Any]:
    result = folder / f"bench-{users}.json"
    command = [options.vllm, "bench", "serve", "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
    command += ["--base-url", options.url, "--model", options.model, "--tokenizer", options.tokenizer or options.model]
    command += ["--dataset-name", "random", "--random-input-len", str(options.input_tokens - TEMPLATE_TOKENS)]
    command += ["--random-output-len", str(options.output_tokens), "--random-range-ratio", "0.25", "--ignore-eos"]
    command += ["--temperature", str(options.temperature), "--seed", str(time.time_ns() % 2**31)]
    command += ["--max-concurrency", str(users), "--num-prompts", str(requests), "--num-warmups", str(users)]
    command += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99"]
    command += ["--save-result", "--result-dir", str(folder), "--result-filename", result.name]
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )
    return json.loads(result.read_text(encoding="utf-8"))


def print_side_by_side(client: Client, bench: dict[str, Any], counted: Sums) -> None:
    step, rows = client.step, client.rows
    hold = rows[rows.phase == "hold"]
    lines: list[tuple[str, float, float | None]] = [
        ("output tokens/s", step["output_tokens_per_s"]["value"], bench["output_throughput"]),
        ("requests/s", step["requests_per_s"]["value"], bench["request_throughput"]),
        (
            "input tokens a request",
            hold.input_tokens.mean(),
            counted["vllm:prompt_tokens_total"] / counted["vllm:request_success_total"],
        ),
        ("output tokens a request", hold.output_tokens.mean(), bench["total_output_tokens"] / bench["completed"]),
    ]
    for ours, theirs in (("ttft_ms", "ttft_ms"), ("tpot_ms", "tpot_ms"), ("itl_ms", "itl_ms"), ("e2e_ms", "e2el_ms")):
        for ours_at, theirs_at in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            value = step[ours][ours_at]["value"]
            if value is not None:
                lines.append((f"{ours.removesuffix('_ms')} {ours_at}, ms", value, bench[f"{theirs_at}_{theirs}"]))
    print_table(("the step's hold", "client", "vllm bench serve", "difference"), [with_share(*line) for line in lines])


def with_share(name: str, ours: float, theirs: float | None) -> tuple[str, str, str, str]:
    if not theirs:
        return name, f"{ours:,.2f}", "–", "–"
    return name, f"{ours:,.2f}", f"{theirs:,.2f}", f"{ours / theirs - 1:+.2%}"


def print_table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
