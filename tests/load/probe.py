"""Asks the real client, in a process of its own: Locust patches the one it runs in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Rows = dict[str, list[dict[str, Any]]]
"""The fields of each job's records."""


def run_probe(jobs: list[dict[str, Any]], *arguments: str) -> Rows:
    probe = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "client_probe.py"), *arguments],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    result: Rows = json.loads(probe.stdout)
    return result


def outcomes(rows: Rows, name: str) -> set[tuple[str, int | None]]:
    return {(row["outcome"], row["status"]) for row in rows[name]}
