"""Whether a staircase's knee holds the truth: `loadstair run` on simulated engines whose capacity their model tells.

    python bench/knee.py [--seeds 10] [--first-seed 1] [--max-num-seqs 48 | none]

The truth comes from the engine's own scheduler and step model, run in simulated time without sockets or clients at many
loads: the load from which on throughput gains less than 1.3 per doubling. Each seed is one run of the main job, with
its own lengths and arrivals; its knee is `capacity.knee` of summary.json. Needs a quiet machine, as a run does.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.optimize import isotonic_regression

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN
from loadstair.simserver.closedloop import run_closed_loop
from loadstair.simserver.options import parse_options
from loadstair.simserver.scheduler import Scheduler
from loadstair.units import NS_PER_S

MODEL = "Qwen/Qwen2.5-32B-Instruct"
INPUT, OUTPUT = {"mean": 128, "cv": 0.15}, {"mean": 64, "cv": 0.3}
STEPS = [2, 4, 8, 16, 32, 64, 128, 192]
LOADS = sorted({round(load) for load in np.geomspace(24, 160, 48)})
"""Where the truth is looked for."""
SIMULATED_S = 200
WARMUP_S = 30


def lognormal(rng: random.Random, mean: float, cv: float) -> int:
    sigma = math.sqrt(math.log1p(cv**2))
    return max(1, round(rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)))


def true_tokens_per_s(users: int, arguments: list[str]) -> float:
    rng = random.Random(users)
    result = run_closed_loop(
        (Scheduler(parse_options(arguments).scheduler),),
        users=users,
        lengths=lambda _: (lognormal(rng, **INPUT), lognormal(rng, **OUTPUT)),
        window_start_ns=WARMUP_S * NS_PER_S,
        window_end_ns=(WARMUP_S + SIMULATED_S) * NS_PER_S,
        user_gap_ns=NS_PER_S // 50,
    )
    return result.output_tokens_per_s()


def true_knee(arguments: list[str]) -> float:
    """The first load from which on the slope of log(throughput) over log(load), taken as falling, is too small."""
    log_loads = np.log(LOADS)
    log_tokens = np.log([true_tokens_per_s(load, arguments) for load in LOADS])
    slopes = np.diff(log_tokens) / np.diff(log_loads)
    falling = isotonic_regression(slopes, weights=np.diff(log_loads), increasing=False).x
    return float(LOADS[int(np.argmax(falling < LOG2_KNEE_GAIN))])


def measured(seed: int, flags: dict[str, int]) -> dict[str, Any]:
    topology = {
        "name": "tp4",
        "kind": "simulated",
        "gpus": {"type": "h100-nvl", "count": 4},
        "engines": [{"tp": 4, "flags": flags}],
    }
    plan = {
        "name": f"knee-{seed}",
        "seed": seed,
        "workload": {"model": MODEL, "input_tokens": INPUT, "output_tokens": OUTPUT},
        "load": {"steps": STEPS, "warmup_s": 2, "hold_s": 6, "cooldown_s": 0, "stop_early": False},
        "topologies": [topology],
    }
    with tempfile.TemporaryDirectory(prefix="loadstair-knee-") as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text(yaml.safe_dump(plan))
        command = [sys.executable, "-m", "loadstair", "run", str(path), "--out", f"{folder}/reports", "--quiet"]
        subprocess.run(command, check=True)
        (run,) = (Path(folder) / "reports").iterdir()
        summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return dict(summary["topologies"]["tp4"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--max-num-seqs", default="none", help="of the engine; none: vLLM's own, beyond the steps")
    options = parser.parse_args()
    flags = {} if options.max_num_seqs == "none" else {"max_num_seqs": int(options.max_num_seqs)}

    arguments = ["--model", MODEL, "--gpu", "h100-nvl", "--tp", "4", "--link", "nvlink_pairs"]
    arguments += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    truth = true_knee(arguments)
    print(f"true knee: {truth:g} users", flush=True)
    print(f"{'seed':>5}  {'knee':>22}  {'fit':>10}  {'holds it':>8}  invalid steps", flush=True)
    held = 0
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        found = measured(seed, flags)
        knee = found["capacity"]["knee"]
        holds = knee["value"] is not None and knee["low"] <= truth <= knee["high"]
        held += holds
        words = "none" if knee["value"] is None else f"{knee['value']:.1f} [{knee['low']:.1f}, {knee['high']:.1f}]"
        invalid = [f"{step['load']:g}" for step in found["steps"] if step["verdict"] != "valid"]
        verdict = "yes" if holds else "NO"
        fit = found["capacity"]["fit"]
        print(f"{seed:>5}  {words:>22}  {fit:>10}  {verdict:>8}  {' '.join(invalid)}", flush=True)
    print(f"held by {held} of {options.seeds}")


if __name__ == "__main__":
    main()
