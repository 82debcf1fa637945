"""Locust's UI and the live page driven in a real browser, as a user does, against a simulated engine."""

import csv
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.explore.fixed_values import NOTICE
from tests.explore.locust_ui import ROOT, LocustUI, locust_ui
from tests.simserver.engine_process import MODEL, running_engine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
expect = playwright.expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

WAIT_MS = 30_000
CHARTS = 7
A_NUMBER = re.compile(r"^[0-9][0-9.,]*$")


@contextmanager
def new_page() -> Iterator[tuple[Any, list[str]]]:
    """A page of a fresh browser, and the errors and warnings of its console."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT_MS)
        said: list[str] = []
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page, said
        browser.close()


def fill_form(page: Any, *, users: str, host: str, **options: str) -> None:
    page.get_by_label("Number of users").fill(users)
    page.get_by_label("Ramp up").fill("10")
    page.get_by_label("Host").fill(host)
    page.get_by_role("button", name="Custom parameters").click()
    for name, value in options.items():
        page.locator(f"[name={name}]").fill(value)


def test_from_the_form_to_the_numbers_the_charts_and_the_files(tmp_path: Path) -> None:
    with (
        running_engine(tmp_path, "--speed", "4") as engine,
        locust_ui(tmp_path, locustfile=ROOT / "locustfiles" / "chat.py") as ui,
        new_page() as (page, said),
    ):
        page.goto(ui.url + "/loadstair/")
        expect(page.locator("#ready")).to_be_visible()
        page.get_by_role("navigation").get_by_role("link", name="Locust UI").click()

        fill_form(page, users="6", host=engine.url, model=MODEL, sloTtftMs="5000")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("tab", name="LLM", exact=True).click()
        for metric in ("TTFT", "ITL", "TPOT", "E2E"):
            cells = page.locator("tr", has_text=metric).filter(has_text="whole test").get_by_role("cell")
            for statistic in range(2, 8):  # n, mean, p50, p90, p99, max
                expect(cells.nth(statistic)).to_have_text(A_NUMBER, timeout=WAIT_MS)
        page.get_by_role("tab", name="LLM rates").click()
        for metric in ("Output tokens/s", "Goodput/s"):
            row = page.locator("tr", has_text=metric).get_by_role("cell")
            expect(row.nth(2)).to_have_text(A_NUMBER, timeout=WAIT_MS)

        page.get_by_role("tab", name="Download Data").click()
        page.get_by_role("link", name="Live charts").click()
        expect(page.locator("#state")).to_have_text("running", timeout=WAIT_MS)
        expect(page.locator(".chart svg")).to_have_count(CHARTS, timeout=WAIT_MS)
        for number in ("#ttft_ms_p99", "#itl_ms_p99", "#output_tokens_per_s"):
            expect(page.locator(number)).to_have_text(A_NUMBER, timeout=WAIT_MS)
        expect(page.locator("#chart-ttft svg")).to_contain_text("limit 5,000 ms")
        line = page.locator("#chart-tokens svg path[stroke-width='2']").first
        drawn = line.get_attribute("d")
        expect(line).not_to_have_attribute("d", drawn, timeout=WAIT_MS)  # it grows

        change_and_stop(page, ui)
        page.goto(ui.url + "/loadstair/")
        expect(page.locator("#state")).to_have_text("stopped", timeout=WAIT_MS)
        rows, summary = downloaded(page, "Records CSV"), downloaded(page, "Summary CSV")
        (ok,) = [row["value"] for row in summary if (row["metric"], row["span"]) == ("ok", "whole_test")]
        assert int(ok) == sum(row["outcome"] == "ok" for row in rows) > 0
        assert said == []


def downloaded(page: Any, link: str) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def change_and_stop(page: Any, ui: LocustUI) -> None:
    """Locust's own buttons: edit, stop."""
    page.goto(ui.url)
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Number of users").fill("3")
    page.get_by_role("button", name="Update").click()
    expect(page.locator("header")).to_contain_text(re.compile("Users\\s*3"), timeout=WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("header")).to_contain_text("STOPPED", ignore_case=True, timeout=WAIT_MS)


def test_a_bad_form_is_answered_in_the_form_and_starts_nothing(tmp_path: Path) -> None:
    with locust_ui(tmp_path, locustfile=ROOT / "locustfiles" / "chat.py") as ui, new_page() as (page, said):
        page.goto(ui.url)
        fill_form(page, users="2", host="http://127.0.0.1:9", inputTokens="none")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text("--input-tokens: 'none' is not a whole number")
        page.locator("[name=inputTokens]").fill("64")
        page.get_by_role("button", name="Start").click()  # no model given, and nobody listens at this port
        expect(page.get_by_role("alert")).to_contain_text("connection refused")
        assert ui.get("/stats/requests").json()["state"] == "ready"
        page.goto(ui.url + "/loadstair/")
        expect(page.locator("#notice")).to_contain_text("The last test did not start")
        assert said == []


def test_the_points_stay_when_locust_goes_away(tmp_path: Path) -> None:
    with locust_ui(tmp_path) as ui, new_page() as (page, _):
        page.goto(ui.url + "/loadstair/")
        expect(page.locator(".chart svg")).to_have_count(CHARTS, timeout=WAIT_MS)
        ui.child.stop()
        expect(page.locator("#notice")).to_contain_text("No answer from Locust since", timeout=WAIT_MS)
        expect(page.locator("#chart-tokens svg path[stroke-width='2']").first).to_be_attached()
        expect(page.locator("#output_tokens_per_s")).to_have_text("1,520")


def test_a_long_test_is_asked_for_in_pages_until_all_of_it_is_there(tmp_path: Path) -> None:
    with locust_ui(tmp_path, TICKS="450") as ui, new_page() as (page, said):
        asked: list[str] = []
        page.on("request", lambda request: "live.json" in request.url and asked.append(request.url.split("=")[1]))
        page.goto(ui.url + "/loadstair/")
        expect(page.locator(".chart svg")).to_have_count(CHARTS, timeout=WAIT_MS)
        expect(page.locator("#notice")).to_have_text(NOTICE)
        with page.expect_request("**/live.json?after=1450"):
            pass
        assert asked == ["0", "1200", "1400", "1450"]
        assert said == []


def test_the_login_opens_the_ui_and_the_live_page(tmp_path: Path) -> None:
    with locust_ui(tmp_path, "--web-login", LOADSTAIR_WEB_PASSWORD="open sesame") as ui, new_page() as (page, said):
        page.goto(ui.url + "/loadstair/")
        page.get_by_label("Password").fill("open sesame")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("button", name="Start")).to_be_visible()
        page.goto(ui.url + "/loadstair/")
        expect(page.locator(".chart svg")).to_have_count(CHARTS, timeout=WAIT_MS)
        assert said == []


ATTACK = """<!doctype html><title>working</title><iframe name="into"></iframe>
<form action="{target}/swarm" method="post" target="into">
<input name="user_count" value="1"><input name="spawn_rate" value="1"></form><script>
const form = "user_count=1&spawn_rate=1", kind = {{ "Content-Type": "application/x-www-form-urlencoded" }};
Promise.allSettled([
  fetch("{target}/swarm", {{ method: "POST", mode: "no-cors", headers: kind, body: form }}),
  fetch("{target}/stats/requests").then((answer) => answer.text()),
]).then((ended) => {{
  const tell = () => {{ document.title = ended.map((one) => one.status).join(" "); }};
  document.querySelector("iframe").addEventListener("load", tell);
  document.querySelector("form").submit();
}});
</script>"""


def test_a_page_of_another_origin_neither_reads_nor_starts(tmp_path: Path) -> None:
    with locust_ui(tmp_path) as ui, serving(ATTACK.format(target=ui.url)) as evil, new_page() as (page, _):
        page.goto(evil)
        expect(page).to_have_title("rejected rejected", timeout=WAIT_MS)
        assert ui.get("/stats/requests").json()["state"] == "ready"


@contextmanager
def serving(page: str) -> Iterator[str]:
    """The URL of a web server of one page, at another port: another origin."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
