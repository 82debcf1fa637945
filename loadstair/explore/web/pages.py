"""Our pages under /loadstair/ in Locust's web server: the live charts with their data, and the CSV files."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flask import Blueprint, Response, abort, jsonify, request

from loadstair.explore.board import Board
from loadstair.explore.numbers import Numbers, Tick
from loadstair.explore.web.rows import SUMMARY_COLUMNS, latency_rows, rate_rows, summary_rows

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.web import WebUI

View = TypeVar("View", bound=Callable[..., Response])

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Style attributes are allowed because the charts set them."""

CHART_LIBRARY_AGE_S: Final = 7 * 24 * 3600

TICKS_MAX: Final = 200
"""Of one answer: it is made in one go, in the only process between two tokens of the load."""

_ASSET_TYPES: Final = {"live.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}


def pages(
    environment: "Environment", web_ui: "WebUI", board: Board, base_path: str, notice: Callable[[], str | None]
) -> Blueprint:
    """Everything here asks for the login, where there is one."""
    blueprint = Blueprint("loadstair", __name__, url_prefix=f"{base_path}/loadstair")

    def protected(view: View) -> View:
        return cast(View, web_ui.auth_required_if_enabled(view))  # type: ignore[no-untyped-call]

    @blueprint.get("/")
    @protected
    def page() -> Response:
        response = _file(_template("live.html"), "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        return response

    @blueprint.get("/assets/<name>")
    @protected
    def asset(name: str) -> Response:
        if name == "echarts.min.js":
            library = resources.files("loadstair.vendor").joinpath(name)
            return _file(library, "text/javascript; charset=utf-8", age_s=CHART_LIBRARY_AGE_S)
        if name not in _ASSET_TYPES:
            abort(404)
        return _file(_template(name), _ASSET_TYPES[name])

    @blueprint.get("/live.json")
    @protected
    def live() -> Response:
        after_s = request.args.get("after", 0.0, type=float)
        if not math.isfinite(after_s):
            abort(400)
        response = jsonify(live_values(environment, board, after_s) | {"notice": notice()})
        response.headers["Cache-Control"] = "no-store"
        return response

    @blueprint.get("/records.csv")
    @protected
    def records() -> Response:
        return _download(board.records_csv(), "loadstair-records.csv")

    @blueprint.get("/summary.csv")
    @protected
    def summary() -> Response:
        return _download(
            _lines([SUMMARY_COLUMNS, *summary_rows(board.recent(), board.total())]), "loadstair-summary.csv"
        )

    return blueprint


def live_values(environment: "Environment", board: Board, after_s: float) -> dict[str, Any]:
    """What the live page draws: `ticks` by column, the first ones after `after_s`; an unknown value is null."""
    ticks = board.ticks(0.0)
    new = board.ticks(after_s)
    recent, total, limits = board.recent(), board.total(), board.limits
    in_flight = ticks[-1].in_flight if ticks and board.test_running else None
    runner = environment.runner
    return {
        "state": runner.state if runner is not None else "missing",
        "running": board.test_running,
        "users": runner.user_count if runner is not None else 0,
        "started_s": board.test_started_s,
        "refusal": board.refusal,
        "host": environment.host,
        "limits": {"ttft_ms": limits.ttft_ms, "tpot_ms": limits.tpot_ms, "e2e_ms": limits.e2e_ms},
        "now": {
            "ttft_ms_p99": recent.ttft_ms.p99,
            "itl_ms_p99": recent.itl_ms.p99,
            "output_tokens_per_s": recent.output_tokens_per_s,
            "requests_per_s": recent.requests_per_s,
            "in_flight": in_flight,
            "failed": total.failed,
        },
        "latency": latency_rows(recent, total),
        "rates": rate_rows(recent, total, in_flight),
        "ticks": _columns(new[:TICKS_MAX]),
        "more": len(new) > TICKS_MAX,
    }


def _columns(ticks: list[Tick]) -> dict[str, list[float | None]]:
    rows = [_point(tick) for tick in ticks]
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}


def _point(tick: Tick) -> dict[str, float | None]:
    numbers = tick.numbers
    return {
        "time_s": tick.time_s,
        "users": tick.users,
        "in_flight": tick.in_flight,
        "output_tokens_per_s": _short(numbers.output_tokens_per_s),
        "requests_per_s": _short(numbers.requests_per_s),
        "goodput_rps": _short(numbers.goodput_rps),
        "failed_per_s": _failed_per_s(numbers),
        "ttft_ms_p50": _short(numbers.ttft_ms.p50),
        "ttft_ms_p99": _short(numbers.ttft_ms.p99),
        "itl_ms_p50": _short(numbers.itl_ms.p50),
        "itl_ms_p99": _short(numbers.itl_ms.p99),
        "tpot_ms_p50": _short(numbers.tpot_ms.p50),
        "tpot_ms_p99": _short(numbers.tpot_ms.p99),
        "e2e_ms_p50": _short(numbers.e2e_ms.p50),
        "e2e_ms_p99": _short(numbers.e2e_ms.p99),
    }


def _failed_per_s(numbers: Numbers) -> float | None:
    return _short(numbers.failed / numbers.span_s) if numbers.span_s > 0 else None


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _template(name: str) -> Traversable:
    return resources.files("loadstair.explore.web").joinpath("templates", name)


def _file(file: Traversable, content_type: str, age_s: int = 0) -> Response:
    """The browser may keep it for `age_s`, and asks then whether it has changed."""
    response = Response(file.read_bytes(), content_type=content_type)
    response.cache_control.private = True
    response.cache_control.max_age = age_s
    response.add_etag()
    response.make_conditional(request)
    return response


def _download(pieces: Iterable[str], name: str) -> Response:
    response = Response(pieces, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    response.headers["Cache-Control"] = "no-store"
    return response


def _lines(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    yield text.getvalue()
