import re
from collections.abc import Callable
from io import StringIO
from typing import Any

from rich.console import Console

from loadstair.report.terminal import closing_table
from tests.report.values import empty_summary, mixed_summary


def printed(summary: dict[str, Any], width: int = 200) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(closing_table(summary))
    return out.getvalue()


def row(text: str, load: str) -> list[str]:
    """The cells of a load's row; they are set apart by two spaces at least."""
    line = next(line for line in text.splitlines() if line.strip().startswith(f"{load} "))
    return re.split(r" {2,}", line.strip())


def test_every_load_is_a_row_with_each_topologys_numbers_and_whose_step_is_invalid() -> None:
    cells = row(printed(mixed_summary()), "64")
    assert len(cells) == 1 + 3 * 2 + 1
    assert (cells[0], cells[-1]) == ("64", "invalid: tp4")


def test_reasons_thresholds_and_the_answer_follow_the_table() -> None:
    summary = mixed_summary()
    text = printed(summary)
    assert "tp4 at 64 users: the load generator was too slow" in text
    assert "threshold failed: topologies.tp2x2.capacity.goodput_rps >= 1000" in text
    assert text.rstrip().splitlines()[-1] in summary["advice"]


def test_a_reason_that_several_loads_share_is_one_line() -> None:
    summary = mixed_summary()
    steps = summary["topologies"]["tp4"]["steps"]
    for step in steps[:2]:
        step.update(verdict="invalid", reasons=steps[2]["reasons"])
    text = printed(summary, width=300)
    assert text.count("the load generator was too slow") == 1
    assert "tp4 at 4 users: the load generator" in text
    assert "(likewise at 16, 64 users)" in text


def test_a_long_list_of_findings_ends_after_the_gravest_and_says_how_many_there_are() -> None:
    summary = mixed_summary()
    notes = [{"id": "n", "severity": "info", "message": f"note {n}"} for n in range(10)]
    summary["findings"] = [*notes, {"id": "w", "severity": "warning", "message": "engine0 was silent"}]
    lines = [line.strip() for line in printed(summary).splitlines()]
    shown = [line for line in lines if line.startswith(("warning: ", "info: "))]
    assert shown[0] == "warning: engine0 was silent"
    assert len(shown) == 8
    assert "… 3 more: see the report" in lines  # 10 + 1 - 8


def test_a_load_that_one_side_did_not_measure_is_absent_there() -> None:
    summary = mixed_summary()
    del summary["topologies"]["tp2x2"]["steps"][0]
    assert row(printed(summary), "4")[4:] == ["–", "–", "–", "valid"]


def test_square_brackets_are_printed_and_not_read_as_markup() -> None:
    summary = mixed_summary()
    summary["advice"] = "carries 1.4× [bold] [1.3, 1.5]"
    assert "carries 1.4× [bold] [1.3, 1.5]" in printed(summary)


def test_it_fits_eighty_columns_for_two_topologies() -> None:
    text = printed(mixed_summary(), width=80)
    assert row(text, "16")[-1] == "valid"
    assert len(row(text, "16")) == 8
    assert max(len(line) for line in text.splitlines()) <= 80


def test_nothing_measured_prints_the_answer_alone() -> None:
    assert "No step of any topology is valid" in printed(empty_summary())


def test_the_table_looks_as_it_was_reviewed(golden: Callable[[str, str], None]) -> None:
    golden("report/terminal.txt", printed(mixed_summary(), width=100))
