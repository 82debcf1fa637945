"""How far `loadstair forecast` agrees with the engines that it foretells, served on this machine under real load.

    python bench/forecast.py [--steps 1 4 16 32] [--hold 20] [--json]

Both run the same plan (Qwen2.5-32B on four H100 NVL, one TP=4 engine and two TP=2 engines behind nginx; 128 tokens in,
64 out); printed is forecast / served, by step. The served engine must have cores of its own to be true to its plan: on
a busy machine it is late, and the ratios show that.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

INVALID = 4
"""Some steps are: the row says which."""
GPUS = {"type": "h100-nvl", "count": 4}
LENGTHS = {"input_tokens": {"mean": 128, "cv": 0.15}, "output_tokens": {"mean": 64, "cv": 0.3}}
TOPOLOGIES = [
    {"name": "tp4", "kind": "simulated", "gpus": GPUS, "engines": [{"tp": 4}]},
    {
        "name": "tp2x2",
        "kind": "simulated",
        "gpus": GPUS,
        "engines": [{"tp": 2}, {"tp": 2}],
        "balancer": {"kind": "nginx", "policy": "round_robin"},
    },
]


def plan(steps: list[int], hold_s: float) -> dict[str, Any]:
    return {
        "name": "bench-forecast",
        "seed": 3,
        "workload": {"model": "Qwen/Qwen2.5-32B-Instruct", **LENGTHS},
        "load": {"steps": steps, "warmup_s": 3, "hold_s": hold_s, "cooldown_s": 0, "stop_early": False},
        "topologies": TOPOLOGIES,
    }


def summary_of(command: str, plan_path: Path, out: Path) -> dict[str, Any]:
    """Of `run` or `forecast`; its own lines go to standard error."""
    words = [sys.executable, "-m", "loadstair", command, str(plan_path), "--out", str(out)]
    code = subprocess.run(words, check=False, stdout=sys.stderr).returncode
    if code not in (0, INVALID):
        sys.exit(f"loadstair {command} ended with {code}")
    (folder,) = out.iterdir()
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


def values(step: dict[str, Any]) -> tuple[float | None, float | None]:
    """Output tokens/s and TTFT p50 in ms."""
    return step["output_tokens_per_s"]["value"], step["ttft_ms"]["p50"]["value"]


def rows(served: dict[str, Any], told: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, topology in served["topologies"].items():
        for real, foretold in zip(topology["steps"], told["topologies"][name]["steps"], strict=True):
            (tokens, ttft), (told_tokens, told_ttft) = values(real), values(foretold)
            found.append(
                {
                    "topology": name,
                    "users": real["load"],
                    "verdict": real["verdict"],
                    "served_tokens_per_s": tokens,
                    "tokens_ratio": told_tokens / tokens if tokens and told_tokens else None,
                    "served_ttft_ms_p50": ttft,
                    "ttft_ratio": told_ttft / ttft if ttft and told_ttft else None,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--hold", type=float, default=20.0, help="seconds of each step")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loadstair-forecast-") as name:
        folder = Path(name)
        plan_path = folder / "plan.yaml"
        plan_path.write_text(yaml.safe_dump(plan(given.steps, given.hold)), encoding="utf-8")
        told = summary_of("forecast", plan_path, folder / "forecast")
        found = rows(summary_of("run", plan_path, folder / "served"), told)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print("topology  users  served tok/s  forecast/served  served TTFT p50  forecast/served")
    for row in found:
        if row["tokens_ratio"] is None or row["ttft_ratio"] is None:
            print(f"{row['topology']:9} {row['users']:5g} nothing to compare")
            continue
        print(
            f"{row['topology']:9} {row['users']:5g} {row['served_tokens_per_s']:13.0f} {row['tokens_ratio']:16.3f} "
            f"{row['served_ttft_ms_p50']:13.1f} ms {row['ttft_ratio']:16.3f}  {row['verdict']}"
        )


if __name__ == "__main__":
    main()
