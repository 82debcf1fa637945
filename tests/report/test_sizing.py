"""The report's section of what the GPUs hold."""

from typing import Any

from loadstair.report.render import render_report
from loadstair.report.sizing import sizing_table
from tests.report.values import mixed_summary

GIB = 2**30


def sized() -> dict[str, Any]:
    summary = mixed_summary()
    sizes = {"weights": 30.5, "activations": 1.1, "overhead": 1.5, "kv_room": 38.6, "budget": 71.7}
    summary["sizing"] = {
        "tp4": [],
        "tp2x2": [
            {
                "tp": 2,
                "engines": 2,
                **{f"{name}_bytes": int(size * GIB) for name, size in sizes.items()},
                "context_tokens": 2560,
                "sequences_per_engine": 1123,
            }
        ],
    }
    return summary


def test_a_row_says_what_each_gpu_and_all_engines_hold() -> None:
    table = sizing_table(sized())
    assert table is not None
    assert "requests of 2,560 tokens" in table.caption
    (row,) = table.rows
    assert (row.label, row.note) == ("tp2x2", "2 × TP2")
    assert [cell.value for cell in row.cells] == ["30.5", "1.1", "1.5", "38.6", "71.7", "1,123", "2,246"]
    assert len(row.cells) == len(table.columns)


def test_the_page_has_the_section_only_where_something_is_known() -> None:
    assert '<section id="sizing">' in render_report(sized(), "", {})
    assert '<section id="sizing">' not in render_report(mixed_summary(), "", {})  # its engines are not in the plan


def test_a_summary_of_an_older_version_has_none() -> None:
    summary = mixed_summary()
    del summary["sizing"]
    assert sizing_table(summary) is None
