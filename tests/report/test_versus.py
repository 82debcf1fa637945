"""What the arms of a comparison do not share stands beside the answer: in the page's head, its table, the terminal."""

import re
from io import StringIO
from typing import Any

from rich.console import Console

from loadstair.report.render import render_report
from loadstair.report.terminal import closing_table
from loadstair.report.versus import versus
from tests.report.values import mixed_run, mixed_summary, run_values

PLACES = {"tp4": 0, "tp2x2": 1}
DIFFERENCE = {"id": "compare.flags", "severity": "warning", "message": "block_size differs"}


def differing() -> dict[str, Any]:
    summary = mixed_summary()
    (one,) = summary["comparisons"].values()
    one["findings"].insert(0, DIFFERENCE)
    return summary


def test_what_differs_stands_right_below_the_answer_and_above_the_table() -> None:
    html = render_report(differing(), "", run_values(mixed_run()))
    head = html[html.index('<p class="answer">') : html.index('<ul class="badges">')]
    assert "block_size differs" in head
    comparison = html[html.index('<section id="comparison">') :]
    assert comparison.index("block_size differs") < comparison.index("At capacity")


def test_what_is_not_compared_is_no_difference() -> None:
    (one,) = differing()["comparisons"].values()
    shown = versus(one, PLACES, "users")
    assert shown.differences == (DIFFERENCE,)
    assert {"compare.cut_off", "compare.loads"} <= {finding["id"] for finding in shown.findings}


def test_the_terminal_tells_it_before_the_answer() -> None:
    out = StringIO()
    Console(file=out, width=200, color_system=None).print(closing_table(differing()))
    assert re.search(r"warning: block_size differs\n(.*\n)*.*tokens of tp4", out.getvalue())


def test_per_gpu_and_per_dollar_come_first_where_the_hardware_differs() -> None:
    (one,) = mixed_summary()["comparisons"].values()
    one["throughput_per_gpu_ratio"].update(value=1.2, low=1.1, high=1.3, claim="higher")
    one["throughput_ratio"].update(value=0.6, low=0.5, high=0.7, claim="lower")
    assert versus(one, PLACES, "users").at_capacity[0].label == "Output tokens/s at capacity"
    assert len(versus(one, PLACES, "users").columns) == 5
    one["unequal"] = True
    shown = versus(one, PLACES, "users")
    assert [row.label for row in shown.at_capacity][:2] == ["Output tokens/s per GPU", "Output tokens/s at capacity"]
    assert [name for name, _ in shown.columns][5:] == ["Output tokens/s per GPU", "USD per 1M output tokens"]
    assert all(len(row.ratios) == len(shown.columns) for row in shown.by_load)


def test_energy_is_compared_where_it_was_measured() -> None:
    (one,) = mixed_summary()["comparisons"].values()
    joules = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 2, "claim": "higher"}
    for step in one["steps"]:
        step["output_tokens_per_joule_ratio"] = joules
    one["output_tokens_per_joule_ratio"] = joules
    shown = versus(one, PLACES, "users")
    assert shown.columns[-1] == ("Output tokens per joule", "higher is better")
    assert shown.at_capacity[-1].ratios[0].words == "tp2x2 better"
