"""The report in a real browser, from a file, without a network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from loadstair.report.render import render_report
from tests.report.test_render import HOSTILE, parsed
from tests.report.values import mixed_run, mixed_summary, run_values

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def opened(html: str, folder: Path) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what the console said."""
    report = folder / "report.html"
    report.write_text(html, encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom", report.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]


def test_both_charts_are_drawn_as_svg_and_the_console_is_silent(tmp_path: Path) -> None:
    dom, console = opened(render_report(mixed_summary(), "name: x\n", run_values(mixed_run())), tmp_path)
    assert console == []
    charts = re.findall(r'<div class="chart".*?</svg>', dom, flags=re.DOTALL)
    assert len(charts) == 2
    for chart in charts:
        assert chart.count("<path") > 10
        assert "tp2x2" in chart
    assert "p50 (dashed) and p99" in charts[1]
    assert ["stroke-dasharray" in chart for chart in charts] == [False, True]


def test_hostile_strings_neither_run_nor_stop_the_charts(tmp_path: Path) -> None:
    summary = mixed_summary()
    summary["topologies"][HOSTILE] = summary["topologies"].pop("tp4")
    summary["name"] = summary["advice"] = HOSTILE
    dom, console = opened(render_report(summary, HOSTILE, run_values(mixed_run())), tmp_path)
    assert console == []
    assert dom.count("</svg>") == 2
    assert "img" not in [tag for tag, _ in parsed(dom).tags]
