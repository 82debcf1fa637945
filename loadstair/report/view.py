"""All rounding and wording of numbers; everything before this is exact.

Arguments are values of summary.json: an estimate is a mapping with value, low, high, n. Absent is an en dash.
"""

from collections.abc import Mapping
from typing import Any

from loadstair.plan import model

ABSENT = "–"
Values = Mapping[str, Any]


def is_predicted(summary: Values) -> bool:
    """Whether the run is a forecast; older summaries do not say."""
    return bool(summary.get("predicted"))


def run_name(summary: Values) -> str:
    """`quickstart`; of a forecast `quickstart (predicted)`."""
    return f"{summary['name']} (predicted)" if is_predicted(summary) else str(summary["name"])


def digits(value: float) -> str:
    """Three significant digits, all digits of larger numbers: 0.0123, 1.24, 56.1, 1,404."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:#.3g}" if size >= 1e-4 else f"{value:.1e}"


def error_ms(milliseconds: float) -> str:
    """A timing error: microseconds as far as they matter. `0.004`, `20.0`."""
    return f"{milliseconds:.3f}" if milliseconds < 1 else digits(milliseconds)


def number(value: float | None) -> str:
    return ABSENT if value is None else digits(value)


def estimate(values: Values, unit: str = "") -> str:
    """`1.24× [1.16, 1.34]`."""
    if values["value"] is None:
        return ABSENT
    text = digits(values["value"]) + unit
    return text if values["low"] is None else f"{text} {bounds(values)}"


def bounds(values: Values) -> str:
    """`[1.16, 1.34]`, empty without an interval."""
    return "" if values["low"] is None else f"[{digits(values['low'])}, {digits(values['high'])}]"


def plus_minus(values: Values) -> str:
    """`1,142 ±3%`: half the interval's width, for where there is no room for both ends."""
    value, low, high = values["value"], values["low"], values["high"]
    if value is None or low is None or value == 0:
        return number(value)
    share = (high - low) / 2 / value * 100
    return f"{digits(value)} ±{share:.0f}%" if share >= 1 else f"{digits(value)} ±{share:.1f}%"


def value_only(values: Values) -> str:
    return number(values["value"])


def percent(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value * 100:.1f} %" if value else "0 %"


def share(values: Values) -> str:
    """`1.2 % [0.4 %, 3.1 %]`: an estimate that is a share."""
    if values["value"] is None or values["low"] is None:
        return percent(values["value"])
    return f"{percent(values['value'])} [{percent(values['low'])}, {percent(values['high'])}]"


def two_digits(value: float) -> str:
    """What a load between two steps is known to: `17`, `1.5`."""
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def count(value: int) -> str:
    return f"{value:,}"


def moment(started: str) -> str:
    """`2026-11-21 10:43:19 UTC` from run.json's ISO 8601."""
    return started.replace("T", " ", 1).replace("+00:00", " UTC")


def subject(workload: Values) -> str:
    """`org/model, chat: prompts of 128 tokens (cv 0.15), answers of 64 (cv 0.3)`."""
    prompts, answers = _length(workload["input_tokens"], " tokens"), _length(workload["output_tokens"])
    return f"{workload['model']}, {workload['endpoint']}: prompts of {prompts}, answers of {answers}"


def _length(tokens: Values, unit: str = "") -> str:
    return f"{tokens['mean']:g}{unit}" + (f" (cv {tokens['cv']:g})" if tokens["cv"] else "")


def load(value: float | None) -> str:
    return ABSENT if value is None else f"{value:g}"


def load_words(value: float | None, unit: str) -> str:
    """`64 users`, `1 user`, `0.5 requests/s`."""
    if value is None:
        return ABSENT
    return f"{value:g} {'user' if value == 1 and unit == 'users' else unit}"


def load_unit(mode: str) -> str:
    return model.load_unit(model.LoadMode(mode))


GLYPHS = "●■▲◆▼★"
"""The charts' symbols as letters, by style."""


def glyph(style: int) -> str:
    return GLYPHS[style]


def claim_words(values: Values) -> str:
    """What the interval of a ratio allows to say."""
    if values["value"] is None:
        return "not measured"
    return {"higher": "higher", "lower": "lower"}.get(values.get("claim") or "", "inside the noise")
