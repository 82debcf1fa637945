"""The numbers as rows of text for the tab and the live page, as values for summary.csv. Nothing is computed here."""

from collections.abc import Iterator
from typing import Final

from loadstair.explore.numbers import Numbers, Spread

UNKNOWN: Final = "–"

RECENT: Final = "last 10\N{NO-BREAK SPACE}s"
TOTAL: Final = "whole test"

LATENCY_COLUMNS: Final = {
    "metric": "Metric (ms)",
    "span": "Over",
    "n": "n",
    "mean": "Mean",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "max": "Max",
}

RATE_COLUMNS: Final = {"metric": "Metric", "recent": "Last 10 s", "total": "Whole test"}

SUMMARY_COLUMNS: Final = ("metric", "unit", "span", "n", "mean", "p50", "p90", "p99", "max", "value")


def latency_rows(recent: Numbers, total: Numbers) -> list[dict[str, str]]:
    """One row for each metric and span, cells by the keys of `LATENCY_COLUMNS`."""
    return [
        {"metric": metric, "span": name, "n": f"{spread.n:,}"}
        | {
            statistic: _milliseconds(value)
            for statistic, value in (
                ("mean", spread.mean),
                ("p50", spread.p50),
                ("p90", spread.p90),
                ("p99", spread.p99),
                ("max", spread.max),
            )
        }
        for position, (metric, _) in enumerate(_spreads(recent))
        for name, numbers in ((RECENT, recent), (TOTAL, total))
        for spread in [_spreads(numbers)[position][1]]
    ]


def rate_rows(recent: Numbers, total: Numbers, in_flight: int | None) -> list[dict[str, str]]:
    """Cells by the keys of `RATE_COLUMNS`. Goodput has a row only where limits were given."""
    rows = [
        {"metric": metric, "recent": rate(of_recent), "total": rate(of_total)}
        for (metric, of_recent), (_, of_total) in zip(_rates(recent), _rates(total), strict=True)
        if metric != "Goodput/s" or of_recent is not None or of_total is not None
    ]
    rows.append({"metric": "In flight (now)", "recent": _count(in_flight), "total": UNKNOWN})
    rows.append({"metric": "Requests ok", "recent": f"{recent.ok:,}", "total": f"{total.ok:,}"})
    rows.append({"metric": "Requests failed", "recent": f"{recent.failed:,}", "total": f"{total.failed:,}"})
    return rows


def summary_rows(recent: Numbers, total: Numbers) -> Iterator[list[str]]:
    """Rows of summary.csv, by `SUMMARY_COLUMNS`; an unknown value is an empty cell."""
    for span, numbers in (("last_10_s", recent), ("whole_test", total)):
        for metric, spread in _spreads(numbers):
            values = (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)
            yield [metric, "ms", span, str(spread.n), *map(_cell, values), ""]
        for metric, unit, value in (
            ("output_tokens", "1/s", numbers.output_tokens_per_s),
            ("requests", "1/s", numbers.requests_per_s),
            ("goodput", "1/s", numbers.goodput_rps),
            ("ok", "", numbers.ok),
            ("failed", "", numbers.failed),
        ):
            yield [metric, unit, span, "", "", "", "", "", "", _cell(value)]


def rate(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _spreads(numbers: Numbers) -> tuple[tuple[str, Spread], ...]:
    return (
        ("TTFT", numbers.ttft_ms),
        ("ITL", numbers.itl_ms),
        ("TPOT", numbers.tpot_ms),
        ("E2E", numbers.e2e_ms),
    )


def _rates(numbers: Numbers) -> tuple[tuple[str, float | None], ...]:
    return (
        ("Output tokens/s", numbers.output_tokens_per_s),
        ("Requests/s", numbers.requests_per_s),
        ("Goodput/s", numbers.goodput_rps),
    )
