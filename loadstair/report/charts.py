"""What the charts draw: points picked from summary.json, nothing computed."""

from collections.abc import Mapping
from typing import Any

from loadstair.report.view import load_unit


def chart_data(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The report's data block: for each chart, one series per topology, points in the order of load.

    A point is `{load, value, low, high, valid}`; steps where the value is unknown have none. `dashed` is a second
    line of the same series, empty where a chart has none: a short run has a p50 where it has no p99.
    """
    return {
        "x": load_unit(summary["mode"]),
        "loads": sorted({step["load"] for topology in summary["topologies"].values() for step in topology["steps"]}),
        "charts": [
            _chart(summary, "throughput", "Throughput, output tokens/s", ("output_tokens_per_s",)),
            _chart(summary, "ttft", "TTFT, ms: p50 (dashed) and p99", ("ttft_ms", "p99"), dashed=("ttft_ms", "p50")),
        ],
    }


def _chart(
    summary: Mapping[str, Any], id_: str, title: str, path: tuple[str, ...], dashed: tuple[str, ...] | None = None
) -> dict[str, Any]:
    return {
        "id": id_,
        "title": title,
        "series": [
            {"name": name, "points": _points(topology, path), "dashed": _points(topology, dashed) if dashed else []}
            for name, topology in summary["topologies"].items()
        ],
    }


def _points(topology: Mapping[str, Any], path: tuple[str, ...]) -> list[dict[str, Any]]:
    return [point for step in topology["steps"] if (point := _point(step, path))]


def _point(step: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    found: Any = step
    for key in path:
        found = found[key]
    if found["value"] is None:
        return None
    return {
        "load": step["load"],
        "value": found["value"],
        "low": found["low"],
        "high": found["high"],
        "valid": step["verdict"] == "valid",
    }
