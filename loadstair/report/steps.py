"""Every step's tables: verdict and main numbers, all percentiles, and what was seen meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from loadstair.report import view
from loadstair.report.charts_load import LATENCIES
from loadstair.report.told import told_once

Values = Mapping[str, Any]

BYTES_PER_GIB = 2**30
ADDED = {"refined": "added near the knee", "bisected": "added at the SLO's limit", "repeated": "taken again"}
"""What the roles of a step's visits say to a reader; a planned one needs no words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    label: str
    cells: tuple[Cell, ...]
    """One for each column of its table."""
    valid: bool
    reasons: tuple[Values, ...] = ()
    """Findings; why the step is invalid."""
    note: str = ""
    """Why the step was measured, if not for the plan alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    caption: str
    columns: tuple[str, ...]
    """Without the one of the rows' labels."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    topology: str
    style: int
    main: Table
    stopped: tuple[str, ...]
    """Why the climb ended before the plan's last step."""
    warnings: tuple[str, ...]
    """Each once, with its loads."""
    percentiles: tuple[Table, ...]
    meanwhile: Table


def steps(name: str, topology: Values, style: int, unit: str) -> Steps:
    return Steps(
        topology=name,
        style=style,
        main=_main(topology["steps"]),
        stopped=tuple(topology.get("stopped", ())),  # not in an older summary
        warnings=told_once(topology, "warnings", unit),
        percentiles=tuple(
            _percentiles(topology["steps"], f"{metric}_ms", title)
            for metric, title in LATENCIES
            if any(f"{metric}_ms" in step for step in topology["steps"])
        ),
        meanwhile=_meanwhile(topology["steps"]),
    )


def _main(told: list[Values]) -> Table:
    """With goodput and SLO only where there is one, and energy only where it was measured."""
    has_slo = any(step["slo"] for step in told)
    columns = ["Output tokens/s", "TTFT p50, ms", "TTFT p99, ms", "ITL p50, ms", "TPOT p50, ms", "E2E p50, ms"]
    columns += ["Goodput, 1/s", "SLO"] if has_slo else ["Requests/s"]
    has_energy = any(step.get("output_tokens_per_joule", {}).get("value") is not None for step in told)
    columns += ["Tokens per joule", "GPU power, W"] if has_energy else []
    rows = []
    for step in told:
        cells = [
            _cell(step["output_tokens_per_s"]),
            _cell(step["ttft_ms"]["p50"]),
            _cell(step["ttft_ms"]["p99"]),
            _cell(step["itl_ms"]["p50"]),
            _cell(step["tpot_ms"]["p50"]),
            _cell(step["e2e_ms"]["p50"]),
        ]
        cells += [_cell(step["goodput_rps"]), _slo(step)] if has_slo else [_cell(step["requests_per_s"])]
        if has_energy:
            power = Cell(value=view.number(step["telemetry"]["gpu_power_watts"]))
            cells += [_cell(step["output_tokens_per_joule"]), power]
        cells.append(Cell(value=view.percent(step["error_rate"]["value"])))
        rows.append(replace(_row(step, cells), reasons=tuple(step["reasons"]), note=_added(step)))
    return Table(caption="Verdicts and main numbers", columns=(*columns, "Failed"), rows=tuple(rows))


def _slo(step: Values) -> Cell:
    """Met, or which limits are violated; `not known` where nothing is violated but something has too few samples."""
    violated = [limit["name"] for limit in step["slo"] if limit["met"] is False]
    if violated:
        return Cell(value="violated", interval=", ".join(violated))
    return Cell(value="met" if step["slo_met"] else "not known")


def _percentiles(told: list[Values], key: str, title: str) -> Table:
    names = ("mean", "p50", "p90", "p99")
    return Table(
        caption=f"{title}, ms",
        columns=(*names, "samples"),
        rows=tuple(
            _row(step, [*(_cell(step[key][name]) for name in names), Cell(value=view.count(step[key]["mean"]["n"]))])
            for step in told
            if key in step
        ),
    )


def _meanwhile(told: list[Values]) -> Table:
    return Table(
        caption="Meanwhile: means over the hold windows",
        columns=(
            "Requests/s",
            "In flight",
            "Running",
            "Waiting",
            "KV use",
            "Preemptions",
            "Stalls (longest)",
            "GPU memory, GiB",
            "Generator CPU",
            "Read lag p99, ms",
            "Late merges",
            "Requests",
        ),
        rows=tuple(_row(step, _meanwhile_cells(step)) for step in told),
    )


def _meanwhile_cells(step: Values) -> list[Cell]:
    seen, stalls, stamps = step["telemetry"], step["stalls"], step["stamps"]
    longest = "" if stalls["longest_ms"] is None else f"{view.digits(stalls['longest_ms'])} ms"
    memory = seen["gpu_memory_used_bytes_max"]
    cpu = seen["generator_cpu_percent"]
    not_ok = ", ".join(f"{count} {name}" for name, count in step["outcomes"].items() if count and name != "ok")
    return [
        _cell(step["requests_per_s"]),
        Cell(value=view.number(step["in_flight_mean"])),
        Cell(value=view.number(seen["requests_running"])),
        Cell(value=view.number(seen["requests_waiting"])),
        Cell(value=view.percent(seen["kv_usage"])),
        Cell(value=view.number(seen["preemptions"])),
        Cell(value=view.count(stalls["count"]), interval=longest),
        Cell(value=view.ABSENT if memory is None else view.digits(memory / BYTES_PER_GIB)),
        Cell(value=view.ABSENT if cpu is None else f"{cpu:.0f} %"),
        Cell(value=view.number(stamps["read_lag_ms_p99"])),
        Cell(value=view.percent(stamps["bunched_late_share"])),
        Cell(value=f"{view.count(step['outcomes']['ok'])} ok", interval=not_ok),
    ]


def _added(step: Values) -> str:
    roles = dict.fromkeys(visit.get("role") for visit in step["visits"])
    return ", ".join(ADDED[role] for role in roles if role in ADDED)


def _row(step: Values, cells: Iterable[Cell]) -> Row:
    return Row(label=view.load(step["load"]), cells=tuple(cells), valid=step["verdict"] == "valid")


def _cell(values: Values) -> Cell:
    return Cell(value=view.value_only(values), interval=view.bounds(values))
