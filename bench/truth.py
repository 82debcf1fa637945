"""How true the client's times are: the main job on one simulated engine, each token held against the engine's ledger.

    python bench/truth.py [--users 16 64 128 256] [--hold 5]

For each step: the tokens a second that arrived, the worker's share of a core, by how much the stamp of a token is later
than the engine's write (median, p99, worst), and TTFT and ITL as the summary tells them against the ledger's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from loadstair.simserver.ledger import LedgerEntry, read_ledger

PLAN: dict[str, Any] = {
    "name": "truth",
    "workload": {
        "model": "Qwen/Qwen2.5-32B-Instruct",
        "input_tokens": {"mean": 64, "cv": 0.2},
        "output_tokens": {"mean": 100, "cv": 0.2},
    },
    "topologies": [
        {
            "name": "one",
            "kind": "simulated",
            "gpus": {"type": "h100-sxm", "count": 4},
            "engines": [{"tp": 4, "flags": {"max_num_seqs": 1024}}],
        }
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[16, 64, 128, 256])
    parser.add_argument("--hold", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = measured(Path(folder), options.users, options.hold)
        samples = pq.read_table(run / "samples").to_pandas()
        (path,) = (run / "log").glob("*.ledger.jsonl")
        ledger = {entry.request_id: entry for entry in read_ledger(path)}
        steps = json.loads((run / "summary.json").read_text())["topologies"]["one"]["steps"]
        print(
            "users   tok/s  CPU %  stamp − write µs p50/p99/max   TTFT p99 ms (ledger)   ITL p99 ms (ledger)  verdict"
        )
        held = samples[(samples.phase == "hold") & (samples.outcome == "ok")]
        for number, step in enumerate(steps):
            print(line(step, held[held.step == number], ledger))


def measured(folder: Path, users: list[int], hold_s: float) -> Path:
    plan = folder / "plan.yaml"
    load = {"steps": users, "warmup_s": 3, "hold_s": hold_s, "cooldown_s": 0}
    plan.write_text(json.dumps(PLAN | {"load": load}))  # JSON is YAML
    command = [sys.executable, "-m", "loadstair", "run", str(plan), "--out", str(folder / "out"), "--quiet"]
    subprocess.run(command, check=True)
    (run,) = (folder / "out").iterdir()
    return run


def line(step: dict[str, Any], rows: pd.DataFrame, ledger: dict[str, LedgerEntry]) -> str:
    """Tokens that share a stamp with a later one have no time of their own and are left out of the first comparison."""
    late_us, ttft_ms, itl_ms = [], [], []
    for row in rows.itertuples():
        entry = ledger[str(row.request_id)]
        written = np.array(entry.write_ns)
        if len(row.arrivals) == len(written) and row.bunched == 0:
            late_us.append((np.asarray(row.arrivals) - written) / 1e3)
        ttft_ms.append((written[0] - entry.received_ns) / 1e6)
        itl_ms.append(np.diff(written) / 1e6)
    late = np.concatenate(late_us)
    shown = f"{np.median(late):.0f}/{np.percentile(late, 99):.0f}/{late.max():.0f}"
    ttft, itl = step["ttft_ms"]["p99"]["value"], step["itl_ms"]["p99"]["value"]
    tokens_per_s, cpu = step["output_tokens_per_s"]["value"], step["telemetry"]["generator_cpu_percent"]
    return (
        f"{step['load']:5.0f} {tokens_per_s:7,.0f} {cpu:6.0f}"
        f"  {shown:>28}   {with_truth(ttft, np.array(ttft_ms)):>20}   {with_truth(itl, np.concatenate(itl_ms)):>19}"
        f"  {step['verdict']}"
    )


def with_truth(value: float | None, truth: npt.NDArray[np.float64]) -> str:
    told = "–" if value is None else f"{value:.2f}"
    return f"{told} ({np.percentile(truth, 99):.2f})"


if __name__ == "__main__":
    main()
