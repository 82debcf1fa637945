"""The closing table, printed after Locust's own."""

from typing import Final

from loadstair.explore.numbers import Numbers, Spread

ROWS: Final = (
    ("TTFT", "ttft_ms"),
    ("ITL", "itl_ms"),
    ("TPOT", "tpot_ms"),
    ("e2e", "e2e_ms"),
)


def closing_table(total: Numbers) -> list[str]:
    """Lines. Latencies of the requests that ended well; `-`: nothing was observed."""
    lines = [
        f"Streams: {total.ok} ok, {total.failed} failed, in {total.span_s:.1f} s",
        f"{'':<6}{'n':>10}{'mean':>11}{'p50':>11}{'p90':>11}{'p99':>11}{'max':>11}  ms",
    ]
    for label, name in ROWS:
        spread: Spread = getattr(total, name)
        cells = (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)
        lines.append(f"{label:<6}{spread.n:>10}" + "".join(f"{_number(cell, 2):>11}" for cell in cells))
    lines.append(
        f"Output tokens/s: {_number(total.output_tokens_per_s, 1)}   requests/s: {_number(total.requests_per_s, 2)}"
        + ("" if total.goodput_rps is None else f"   goodput, requests/s within the limits: {total.goodput_rps:.2f}")
    )
    return lines


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
