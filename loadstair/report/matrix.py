"""The tests of a matrix as rows of words: for the page, the terminal and the badges."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loadstair.report import view
from loadstair.report.steps import Cell, Row, Table

Values = Mapping[str, Any]

MARKS = {"success": "✅", "warning": "⚠", "failure": "❌"}
STATUSES = tuple(MARKS)
ANSWERS = {
    "out_of_memory": "Out of memory from",
    "latency_doubles": "Latency doubles at",
    "saturates": "Throughput saturates at",
    "recommended": "Recommended concurrency",
}
BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPart:
    topology: str
    style: int
    answers: Table
    tests: Table
    baselines: Table


def matrix_parts(summary: Values, places: Mapping[str, int]) -> tuple[MatrixPart, ...]:
    """By topology; none where the run was no matrix."""
    return tuple(
        MatrixPart(
            topology=name,
            style=places[name],
            answers=_answers(one["answers"]),
            tests=_tests(one["tests"]),
            baselines=_baselines(one["baselines"]),
        )
        for name, one in (summary.get("matrix") or {}).items()
    )


def matrix_subject(summary: Values) -> str:
    """`org/model, chat: 9 named tests in bursts of 1 to 32 users`."""
    workload = summary["workload"]
    tests = next(iter(summary["matrix"].values()))["tests"]
    users = sorted(test["users"] for test in tests)
    spread = f"{users[0]}" if users[0] == users[-1] else f"{users[0]} to {users[-1]}"
    what = "1 named test" if len(tests) == 1 else f"{len(tests)} named tests"
    return f"{workload['model']}, {workload['endpoint']}: {what} in bursts of {spread} users"


def status_counts(one: Values) -> tuple[str, str]:
    """`7 ✅ success, 2 ⚠ warning`, and the tone of the gravest."""
    counts = {status: sum(test["status"] == status for test in one["tests"]) for status in STATUSES}
    words = [f"{count} {MARKS[status]} {status}" for status, count in counts.items() if count]
    without = len(one["tests"]) - sum(counts.values())
    if without:
        words.append(f"{without} without a result")
    tone = (
        "bad"
        if counts["failure"] or without == len(one["tests"])
        else "warn"
        if counts["warning"] or without
        else "good"
    )
    return ", ".join(words), tone


def status_words(test: Values) -> str:
    """`⚠ warning`; `invalid` or `unmeasured` where a test has no result."""
    status = test["status"]
    return str(test["verdict"]) if status is None else f"{MARKS[status]} {status}"


def lengths(values: Values) -> str:
    return f"{view.load(values['input_tokens'])} in / {view.load(values['output_tokens'])} out"


def times(test: Values) -> str:
    """`2.31×`: latency against the baseline."""
    value = test["latency_ratio"]["value"]
    return view.ABSENT if value is None else f"{view.digits(value)}×"


def reasons(test: Values) -> Iterator[Values]:
    """What a reader must know beside the numbers, as findings."""
    for error in test["errors"]:
        count = "" if error["requests"] == 0 else f"{error['requests']} requests: "
        yield {"id": error["kind"], "severity": "invalid", "message": f"{count}{error['message']}"}
    yield from test["reasons"]
    for note in test["notes"]:
        yield {"id": "matrix.note", "severity": "info", "message": note}


def _answers(answers: list[Values]) -> Table:
    rows = [
        Row(label=lengths(one), cells=tuple(Cell(value=one[key]["words"]) for key in ANSWERS), valid=True)
        for one in answers
    ]
    return Table(caption="The four answers", columns=tuple(ANSWERS.values()), rows=tuple(rows))


def _tests(tests: list[Values]) -> Table:
    columns = ["Status", "Users", "Tokens", "Answered", "Latency, ms", "× baseline", "TTFT, ms", "TPOT, ms"]
    has_memory = any(test["gpu_memory_used_bytes_max"] is not None for test in tests)
    columns += ["Output tokens/s", *(["Peak memory, MB"] if has_memory else [])]
    return Table(
        caption="Means over the runs, with 95 % intervals from the runs",
        columns=tuple(columns),
        rows=tuple(
            Row(
                label=test["id"],
                cells=tuple(_test_cells(test, has_memory)),
                valid=test["verdict"] != "invalid",
                reasons=tuple(reasons(test)),
            )
            for test in tests
        ),
    )


def _test_cells(test: Values, has_memory: bool) -> Iterator[Cell]:
    yield Cell(value=status_words(test))
    yield Cell(value=view.load(test["users"]))
    yield Cell(value=lengths(test))
    yield Cell(value=f"{test['answered']} of {test['requests']}")
    yield _estimate(test["e2e_ms"])
    yield Cell(value=times(test), interval=view.bounds(test["latency_ratio"]))
    for key in ("ttft_ms", "tpot_ms", "output_tokens_per_s"):
        yield _estimate(test[key])
    if has_memory:
        used = test["gpu_memory_used_bytes_max"]
        yield Cell(value=view.number(None if used is None else used / BYTES_PER_MB))


def _baselines(baselines: list[Values]) -> Table:
    columns = ("Requests", "Latency, ms", "TTFT, ms", "TPOT, ms", "Output tokens/s")
    keys = ("e2e_ms", "ttft_ms", "tpot_ms", "output_tokens_per_s")
    return Table(
        caption="Baselines: single requests, one after the other",
        columns=columns,
        rows=tuple(
            Row(
                label=one["label"],
                cells=(Cell(value=view.count(one["requests"])), *(_estimate(one[key]) for key in keys)),
                valid=one["verdict"] != "invalid",
                reasons=tuple(one["reasons"]),
            )
            for one in baselines
        ),
    )


def _estimate(values: Values) -> Cell:
    return Cell(value=view.value_only(values), interval=view.bounds(values))
