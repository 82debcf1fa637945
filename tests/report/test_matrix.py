"""What the page, the terminal and junit.xml say of a matrix."""

import io
from dataclasses import replace
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

from rich.console import Console

from loadstair.report.junit import junit_xml
from loadstair.report.matrix import status_counts
from loadstair.report.render import render_report
from loadstair.report.terminal import closing_table
from tests.analysis.matrix_runs import TESTS, matrix_plan, matrix_run
from tests.analysis.synthetic import SyntheticRun, failed
from tests.report.values import run_values, summary_of


@cache
def run() -> SyntheticRun:
    """T3 to T5 of which T3 succeeds, T4 runs out of memory and T5 is a warning against their baseline of 10 ms gaps."""
    made = matrix_run(matrix_plan(TESTS[2:], runs=2))
    steps = {step.step for step in made.run.visits[0].steps if step.test == "T4"}
    return made.with_rows(
        lambda row: replace(failed(row), error="CUDA out of memory <b>") if row.step in steps and row.index else row
    ).recounted()


@cache
def _summary() -> dict[str, Any]:
    return summary_of(run())


def test_the_page_shows_every_test_the_answers_and_no_empty_staircase() -> None:
    html = render_report(_summary(), "name: synthetic\n", run_values(run()))
    for text in ("✅ success", "⚠ warning", "❌ failure", "baseline/T3", "Recommended concurrency", "100 in / 11 out"):
        assert text in html
    assert "14 requests: CUDA out of memory &lt;b&gt;" in html  # 2 runs × (8 - 1)
    assert "8 users (T4)" in html
    for absent in ("Never measured", 'id="capacity"', 'id="steps"'):
        assert absent not in html


def test_the_badge_counts_the_tests() -> None:
    assert status_counts(_summary()["matrix"]["tp4"]) == ("1 ✅ success, 1 ⚠ warning, 1 ❌ failure", "bad")


def test_the_terminal_has_a_row_for_each_test_and_the_four_answers() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(closing_table(_summary()))
    text = out.getvalue()
    assert [line.split()[0] for line in text.splitlines() if line.strip().startswith(("T3 ", "T4 ", "T5 "))] == [
        "T3",
        "T4",
        "T5",
    ]
    assert "Out of memory from: 8 users (T4)" in text
    assert "Recommended concurrency: 4 users (T3)" in text


def test_junit_has_a_case_for_each_test_of_which_a_failed_one_is_a_failure() -> None:
    root = ET.fromstring(junit_xml(_summary()))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == ["T3", "T4", "T5"]
    assert [len(case.findall("failure")) for case in cases.values()] == [0, 1, 0]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "0")
    assert "3.20× the baseline's latency" in (cases["T5"].findtext("system-out") or "")  # 32 / 10
