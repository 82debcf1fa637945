"""The report in a real browser, from a file, without a network."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from loadstair.report.render import render_calibration, render_report
from tests.calibrate.values import calibration
from tests.report.test_generator import generator
from tests.report.test_render import HOSTILE, hostile_values, page, parsed
from tests.report.values import empty_summary, four_run, mixed_run, run_values, summary_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
PHONE_PX, DESKTOP_PX, PAPER_PX = 390, 1200, 690

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *arguments,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def written(html: str, folder: Path) -> Path:
    report = folder / "report.html"
    report.write_text(html, encoding="utf-8")
    return report


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]


def opened(html: str, folder: Path) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what the console said."""
    done = chromium(folder, "--dump-dom", written(html, folder).as_uri())
    return done.stdout, console(done)


def measured(html: str, folder: Path, script: str, *flags: str, width_px: int = DESKTOP_PX) -> Any:
    """What `script`, a function's body with `page` (a document) and `view` (its window), returns of the page in a frame
    of that width: no window of a headless Chromium is as narrow as a phone."""
    written(html, folder)
    (folder / "frame.html").write_text(
        f"""<!doctype html><html style="color-scheme: light dark"><pre id="out"></pre>
        <iframe src="report.html" style="width:{width_px}px;height:800px;border:0"></iframe>
        <script>window.addEventListener("load", () => {{
          const view = document.querySelector("iframe").contentWindow, page = view.document;
          document.getElementById("out").textContent = JSON.stringify((() => {{ {script} }})());
        }});</script></html>""",
        encoding="utf-8",
    )
    dom = chromium(
        folder, "--allow-file-access-from-files", *flags, "--dump-dom", (folder / "frame.html").as_uri()
    ).stdout
    found = re.search(r'<pre id="out">(.*?)</pre>', dom)
    assert found is not None
    return json.loads(unescape(found[1]))


def charts(dom: str) -> dict[str, str]:
    """Each chart's SVG by its id."""
    return dict(re.findall(r'<div class="chart" id="chart-([\w-]+)".*?(<svg.*?</svg>)', dom, flags=re.DOTALL))


def test_every_chart_is_drawn_as_svg_and_the_console_is_silent(tmp_path: Path) -> None:
    dom, said = opened(page(), tmp_path)
    assert said == []
    drawn = charts(dom)
    assert drawn.keys() == {
        *("answer", "ttft", "itl", "tpot", "e2e", "requests"), *("time-0", "time-1"), *("balance-0", "balance-1"),
    }  # fmt: skip
    for id_, svg in drawn.items():
        assert svg.count("<path") > 10, id_
    for words in ("Output tokens/s", "TTFT p99, ms", "SLO 150 ms"):
        assert words in drawn["answer"]
    assert "var(--series0)" in drawn["answer"]
    assert "var(--series1)" in drawn["answer"]
    assert "stroke-dasharray" in drawn["time-0"]  # who waits
    assert re.search(r">\d\d\.\d %</text>", drawn["balance-0"])


def test_an_invalid_step_is_hollow(tmp_path: Path) -> None:
    dom, _ = opened(page(), tmp_path)
    hollow = re.findall(r'<path [^>]*fill="var\(--ground\)"[^>]*>', charts(dom)["answer"])
    assert len(hollow) == 2  # tp4 at 64 users, in both panels
    for symbol in hollow:
        assert 'stroke="var(--series0)"' in symbol


def test_knee_and_crossover_are_named_in_the_chart(tmp_path: Path) -> None:
    summary = summary_of(mixed_run())
    summary["topologies"]["tp2x2"]["capacity"]["knee_load"] = 16
    summary["comparisons"]["tp2x2_vs_tp4"]["throughput_crossover_load"].update(value=17.2, low=15.1, high=19.0)
    dom, _ = opened(render_report(summary, "name: x\n", run_values(mixed_run())), tmp_path)
    assert ">knee</text>" in charts(dom)["answer"]
    assert ">tp4 = tp2x2 near 17 users</text>" in charts(dom)["answer"]


def test_the_load_generators_ceiling_is_a_named_line(tmp_path: Path) -> None:
    summary = {**summary_of(mixed_run()), "generator": generator(2000)}
    dom, said = opened(render_report(summary, "name: x\n", run_values(mixed_run())), tmp_path)
    assert said == []
    assert ">load generator's ceiling 2,000</text>" in charts(dom)["answer"]


def test_a_calibrations_page_draws_its_charts(tmp_path: Path) -> None:
    dom, said = opened(render_calibration(calibration()), tmp_path)
    assert said == []
    drawn = charts(dom)
    assert drawn.keys() == {"rates", "errors"}
    assert ">ceiling 25,600</text>" in drawn["rates"]
    assert ">p99 at most 0.2 ms</text>" in drawn["errors"]


def test_a_run_without_a_step_has_no_chart_and_no_error(tmp_path: Path) -> None:
    dom, said = opened(render_report(empty_summary(), "name: x\n", run_values(mixed_run())), tmp_path)
    assert said == []
    assert charts(dom) == {}


def test_hostile_strings_neither_run_nor_stop_the_charts(tmp_path: Path) -> None:
    summary, run = hostile_values()
    dom, said = opened(render_report(summary, HOSTILE, run), tmp_path)
    assert said == []
    assert charts(dom).keys() == charts(opened(page(), tmp_path)[0]).keys()
    assert "img" not in [tag for tag, _ in parsed(dom).tags]


TOUCH = """
  const chart = page.getElementById("chart-answer"), drawn = view.echarts.getInstanceByDom(chart);
  drawn.dispatchAction({type: "showTip", seriesIndex: 2, dataIndex: 1});
  drawn.getZr().flush();
  return [chart.querySelectorAll("img, script, a").length, chart.textContent];
"""


def test_a_tooltip_tells_the_numbers_and_is_no_html(tmp_path: Path) -> None:
    summary, run = hostile_values()
    elements, text = measured(render_report(summary, HOSTILE, run), tmp_path, TOUCH)
    assert elements == 0
    assert "<img src=x" in text
    assert "16 users" in text
    assert re.search(r"tp2x2: [\d,]+ \[[\d,]+, [\d,]+\]", text)


COLOURS = """
  const text = page.querySelector("#chart-answer text");
  return [view.getComputedStyle(page.body).backgroundColor, view.getComputedStyle(text).fill];
"""


def test_page_and_charts_are_dark_where_the_reader_wants_it(tmp_path: Path) -> None:
    assert measured(page(), tmp_path, COLOURS) == ["rgb(255, 255, 255)", "rgb(91, 101, 115)"]  # --ground, --quiet
    assert measured(page(), tmp_path, COLOURS, *DARK) == ["rgb(20, 23, 28)", "rgb(154, 165, 180)"]


OVERFLOW = """
  page.querySelectorAll("details").forEach((one) => { one.open = true; });
  const wide = Array.from(page.querySelectorAll("main *")).filter((one) => !one.closest("pre, svg")
    && one.getBoundingClientRect().right > view.innerWidth + 1);
  return [page.documentElement.scrollWidth, page.querySelectorAll(".chart svg").length,
    wide.map((one) => one.tagName + "." + one.className)];
"""


@pytest.mark.parametrize("width_px", [PHONE_PX, DESKTOP_PX])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width_px: int) -> None:
    four = render_report(summary_of(four_run()), "name: x\n", run_values(four_run()))
    summary, run = hostile_values()
    for html, drawn in ((page(), 10), (four, 14), (render_report(summary, HOSTILE, run), 10)):
        scroll_width, svgs, wide = measured(html, tmp_path, OVERFLOW, width_px=width_px)
        assert scroll_width <= width_px
        assert svgs == drawn
        assert wide == []


PRINTED = """
  const state = () => [
    page.querySelectorAll("details:not([open])").length,
    Math.max(...Array.from(page.querySelectorAll(".chart svg")).map((one) => one.getBoundingClientRect().width))];
  const before = state();
  view.dispatchEvent(new view.Event("beforeprint"));
  const during = state();
  view.dispatchEvent(new view.Event("afterprint"));
  return [before, during, state()];
"""


def test_on_paper_everything_is_opened_and_the_charts_are_as_wide_as_the_sheet(tmp_path: Path) -> None:
    before, during, after = measured(page(), tmp_path, PRINTED)
    assert during == [0, PAPER_PX]
    assert before[0] > 0
    assert before[1] > PAPER_PX
    assert after == before


def test_it_prints_to_pdf(tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    done = chromium(tmp_path, f"--print-to-pdf={target}", written(page(), tmp_path).as_uri())
    assert console(done) == []
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3


def test_details_open_by_keyboard_and_links_take_the_focus(tmp_path: Path) -> None:
    found = measured(
        page(),
        tmp_path,
        """const reached = Array.from(page.querySelectorAll("summary, nav a")).map((one) => {
             one.focus(); return page.activeElement === one; });
           return [reached.length, reached.every(Boolean)];""",
    )
    assert found[0] > 5
    assert found[1] is True
