"""Colours that can be read: WCAG 2.2, contrast of text (1.4.3) and of what charts are drawn with (1.4.11)."""

import re
from importlib import resources

import pytest

CSS = resources.files("loadstair.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
)
TEXT_AT_LEAST, GRAPHIC_AT_LEAST = 4.5, 3.0


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_contrast_that_wcag_tells() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(theme: dict[str, str]) -> None:
    for name in ("text", "quiet", "link", "good", "warn", "bad"):
        assert contrast(theme[name], theme["ground"]) >= TEXT_AT_LEAST, name
    for name in ("text", "quiet"):
        assert contrast(theme[name], theme["panel"]) >= TEXT_AT_LEAST, name
    for name in ("good", "warn", "bad"):
        assert contrast(theme[name], theme[f"{name}-ground"]) >= TEXT_AT_LEAST, name


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_and_symbols_stand_out(theme: dict[str, str]) -> None:
    series = [name for name in theme if name.startswith("series")]
    assert len(series) == 7  # six topologies and what belongs to none
    for name in series:
        assert contrast(theme[name], theme["ground"]) >= GRAPHIC_AT_LEAST, name
