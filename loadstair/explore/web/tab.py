"""The tabs "LLM" and "LLM rates" of Locust's own UI, and its links to our pages.

Locust 2.47's UI knows tables only (`extended_tabs`, `extended_tables`), one a tab. It hides all tabs until a test was
started, and asks for rows only while one runs: the numbers of after the last answer are on the live page.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flask import Flask, Response, jsonify, request

from loadstair.explore.web.rows import LATENCY_COLUMNS, RATE_COLUMNS

if TYPE_CHECKING:
    from locust.web import WebUI

LATENCY_TAB: Final = "llm"
RATE_TAB: Final = "llm-rates"

Rows: TypeAlias = list[dict[str, str]]


def add_tabs(web_ui: "WebUI") -> None:
    """Besides those that the user's own locustfile adds."""
    tables = ((LATENCY_TAB, "LLM", LATENCY_COLUMNS), (RATE_TAB, "LLM rates", RATE_COLUMNS))
    _append(web_ui, "extended_tabs", [{"key": key, "title": title} for key, title, _ in tables])
    _append(
        web_ui,
        "extended_tables",
        [
            {"key": key, "structure": [{"key": column, "title": head} for column, head in columns.items()]}
            for key, _, columns in tables
        ],
    )
    _append(
        web_ui,
        "extended_csv_files",
        [
            {"href": "./loadstair/", "title": "Live charts: TTFT, ITL, tokens/s"},
            {"href": "./loadstair/records.csv", "title": "Download LLM request records CSV"},
            {"href": "./loadstair/summary.csv", "title": "Download LLM summary CSV"},
        ],
    )


def answer_rows(app: Flask, rows: Callable[[], tuple[Rows, Rows]]) -> None:
    """`rows`: of the latency tab and of the rate tab. They ride on the answer the UI polls every 2 s."""

    @app.after_request
    def with_rows(response: Response) -> Response:
        if request.endpoint != "locust.request_stats" or response.status_code != 200 or not response.is_json:
            return response
        report = response.get_json()  # Locust keeps this answer and gives it again: a new one is made
        latency, rates = rows()
        ours = [{"key": LATENCY_TAB, "data": latency}, {"key": RATE_TAB, "data": rates}]
        return jsonify(report | {"extended_stats": [*report.get("extended_stats", []), *ours]})


def _append(web_ui: "WebUI", key: str, entries: list[dict[str, Any]]) -> None:
    web_ui.template_args[key] = [*web_ui.template_args.get(key, []), *entries]
