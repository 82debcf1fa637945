"""The tab's rows, the live page's data and the CSV files, from a board whose numbers are known."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadstair.explore.web.rows import LATENCY_COLUMNS, RATE_COLUMNS, RECENT, TOTAL, latency_rows, rate_rows
from tests.explore.fixed_values import NOTICE, NUMBERS, RECORDS
from tests.explore.locust_ui import LocustUI, locust_ui


@pytest.fixture(scope="module", params=["", "/load/test"])
def ui(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LocustUI]:
    with locust_ui(tmp_path_factory.mktemp("pages"), base_path=request.param) as running:
        yield running


def test_each_metric_has_a_row_for_the_last_seconds_and_one_for_the_test() -> None:
    rows = latency_rows(NUMBERS, NUMBERS)
    assert [(row["metric"], row["span"]) for row in rows] == [
        (metric, span) for metric in ("TTFT", "ITL", "TPOT", "E2E") for span in (RECENT, TOTAL)
    ]
    assert all(row.keys() == LATENCY_COLUMNS.keys() for row in rows)
    assert rows[0] == {
        "metric": "TTFT", "span": RECENT, "n": "10",
        "mean": "51.2", "p50": "50.0", "p90": "61.5", "p99": "1,234", "max": "1,250",
    }  # fmt: skip


def test_what_is_unknown_is_a_dash_and_never_0() -> None:
    itl = latency_rows(NUMBERS, NUMBERS)[2]
    assert [itl[key] for key in ("n", "mean", "p50", "p90", "p99", "max")] == ["0", "–", "–", "–", "–", "–"]


def test_goodput_is_shown_only_with_limits() -> None:
    rows = rate_rows(NUMBERS, NUMBERS, in_flight=None)
    assert [row["metric"] for row in rows] == [
        "Output tokens/s", "Requests/s", "In flight (now)", "Requests ok", "Requests failed",
    ]  # fmt: skip
    assert all(row.keys() == RATE_COLUMNS.keys() for row in rows)
    assert rows[2]["recent"] == "–"


def test_locusts_own_page_gets_tabs_tables_and_links(ui: LocustUI) -> None:
    page = ui.get("/").text()
    for key in ("extended_tabs", "extended_tables", "extended_csv_files", "./loadstair/records.csv"):
        assert key in page


def test_the_polled_statistics_carry_the_rows_every_time(ui: LocustUI) -> None:
    for _ in range(2):  # the second answer is Locust's kept one
        stats = ui.get("/stats/requests").json()
        assert {"stats", "errors", "state"} <= stats.keys()
        assert [tab["key"] for tab in stats["extended_stats"]] == ["llm", "llm-rates"]
        assert stats["extended_stats"][0]["data"] == latency_rows(NUMBERS, NUMBERS)


def test_the_live_page_takes_nothing_from_outside(ui: LocustUI) -> None:
    page = ui.get("/loadstair/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in page.text().replace("<!doctype html>", "").lower().replace("http-equiv", "")
    for name in ("live.js", "live.css", "echarts.min.js"):
        asset = ui.get(f"/loadstair/assets/{name}")
        assert asset.status == 200, name
        assert ui.get(f"/loadstair/assets/{name}", **{"If-None-Match": asset.headers["etag"]}).status == 304
    assert ui.get("/loadstair/assets/live.html").status == 404
    assert ui.get("/loadstair").headers["location"].endswith(f"{ui.base_path}/loadstair/")


def test_live_values_are_those_after_the_last_seen(ui: LocustUI) -> None:
    live = ui.get("/loadstair/live.json").json()
    assert live["ticks"]["time_s"] == [1001.0, 1002.0, 1003.0, 1004.0, 1005.0]
    assert live["ticks"]["failed_per_s"] == [0.2] * 5  # 2 failed / 10 s
    assert live["ticks"]["itl_ms_p99"] == [None] * 5
    assert live["limits"] == {"ttft_ms": 200.0, "tpot_ms": None, "e2e_ms": None}
    assert ui.get("/loadstair/live.json?after=1003").json()["ticks"]["time_s"] == [1004.0, 1005.0]
    assert ui.get("/loadstair/live.json?after=1005").json()["ticks"] == {}


def test_a_long_test_is_told_in_pages(tmp_path: Path) -> None:
    with locust_ui(tmp_path, TICKS="450") as ui:
        after_s, sizes = 0.0, []
        while True:
            live = ui.get(f"/loadstair/live.json?after={after_s}").json()
            times = live["ticks"]["time_s"]
            assert times[0] == (after_s or 1000.0) + 1.0  # none is left out
            after_s = times[-1]
            sizes.append(len(times))
            if not live["more"]:
                break
    assert sizes == [200, 200, 50]


def test_the_page_has_what_the_user_should_know(ui: LocustUI) -> None:
    assert ui.get("/loadstair/live.json").json()["notice"] == NOTICE


def test_the_records_are_a_file_to_keep_as_the_board_has_them(ui: LocustUI) -> None:
    answer = ui.get("/loadstair/records.csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.text() == "".join(RECORDS)


def test_the_summary_has_units_and_leaves_unknown_cells_empty(ui: LocustUI) -> None:
    rows = list(csv.DictReader(io.StringIO(ui.get("/loadstair/summary.csv").text())))
    by_name = {(row["metric"], row["span"]): row for row in rows}
    assert len(by_name) == len(rows) == 18  # 2 spans * (4 latencies + 5 values)
    assert by_name["TTFT", "whole_test"] | {"unit": "ms", "p99": "1234.4", "value": ""} == by_name["TTFT", "whole_test"]
    assert by_name["ITL", "last_10_s"]["p50"] == ""
    assert by_name["output_tokens", "last_10_s"]["value"] == "1520"
    assert by_name["goodput", "last_10_s"]["value"] == ""
