"""A matrix run's closing table for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from loadstair.report import view
from loadstair.report.matrix import ANSWERS, lengths, reasons, status_words, times

STYLES = {"success": "green", "warning": "yellow", "failure": "bold red", None: "bold red"}
COLUMNS = ("users", "tokens", "answered", "latency ms", "× base", "TTFT ms", "TPOT ms", "tok/s")


def matrix_tables(summary_json: Mapping[str, Any]) -> Iterator[RenderableType]:
    """For each topology a row per test, what is to be said of some, and the four answers for each pair of lengths."""
    for name, one in summary_json["matrix"].items():
        title = Text(f"{summary_json['name']}: {name}")
        table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column("test", no_wrap=True)
        table.add_column("status", no_wrap=True)
        for column in COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for test in one["tests"]:
            table.add_row(*_cells(test))
        yield table
        yield from _lines(one)


def _cells(test: Mapping[str, Any]) -> Iterator[Text]:
    yield Text(test["id"])
    yield Text(status_words(test), style=STYLES[test["status"]])
    yield Text(view.load(test["users"]))
    yield Text(lengths(test))
    yield Text(f"{test['answered']}/{test['requests']}")
    yield Text(view.plus_minus(test["e2e_ms"]))
    yield Text(times(test))
    for key in ("ttft_ms", "tpot_ms", "output_tokens_per_s"):
        yield Text(view.plus_minus(test[key]))


def _lines(one: Mapping[str, Any]) -> Iterator[Text]:
    for test in one["tests"]:
        for told in reasons(test):
            yield Text(f"{test['id']}: {told['message']}", style="yellow" if told["severity"] == "info" else "bold red")
    for answers in one["answers"]:
        yield Text(f"{lengths(answers)}:", style="bold")
        for key, title in ANSWERS.items():
            yield Text(f"  {title}: {answers[key]['words']}")
