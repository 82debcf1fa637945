"""The load generator's ceiling in the report, and the calibration's own table and page."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from loadstair.report.calibration import calibration_figures, calibration_table
from loadstair.report.charts_load import answer_figure, requests_figure
from loadstair.report.generator import NOT_CALIBRATED, generator_words
from loadstair.report.render import render_calibration
from loadstair.samples.calibration import Calibration
from tests.calibrate.values import calibration, level
from tests.report.test_render import parsed
from tests.report.values import mixed_summary


def generator(tokens_per_s: float, **changes: object) -> dict[str, Any]:
    return {
        "ceiling_tokens_per_s": tokens_per_s,
        "ceiling_requests_per_s": 4000.0,
        "ceiling_chunks_per_s": tokens_per_s,
        "ceiling_chunks_per_s_per_worker": tokens_per_s / 2,
        "ceiling_requests_per_s_per_worker": 2000.0,
        "workers": 2,
        "ttft_error_ms_p99": 0.08,
        "itl_error_ms_p99": 0.01,
        "date": "2026-11-21T14:10:57+00:00",
        "ground_truth": "native",
        "lower_bound": "",
        **changes,
    }


def throughput_of(summary: dict[str, Any]) -> tuple[dict[str, Any], str]:
    figure = answer_figure(summary)
    return figure.panels[0], figure.note


def test_a_ceiling_within_reach_is_a_line_with_its_name() -> None:
    summary = mixed_summary()
    highest = max(
        step["output_tokens_per_s"]["value"] for one in summary["topologies"].values() for step in one["steps"]
    )
    panel, note = throughput_of({**summary, "generator": generator(highest * 1.9)})
    assert panel["ceiling"]["value"] == highest * 1.9
    assert panel["ceiling"]["text"].startswith("load generator's ceiling")
    assert "ceiling" not in note


def test_a_ceiling_far_above_is_told_in_words_and_does_not_squash_the_lines() -> None:
    panel, note = throughput_of({**mixed_summary(), "generator": generator(1e6)})
    assert panel["ceiling"] is None
    assert "The load generator's ceiling 1,000,000 lies far above." in note


def test_without_a_calibration_there_is_no_ceiling_to_draw() -> None:
    summary = mixed_summary()
    assert throughput_of(summary)[0]["ceiling"] is None
    assert requests_figure(summary).panels[0]["ceiling"] is None
    assert generator_words(summary["generator"]) == NOT_CALIBRATED


def test_the_words_say_what_a_worker_carries_how_true_it_is_and_what_bounds_it() -> None:
    words = generator_words(generator(51_200, lower_bound="the highest level held"))
    for part in (
        "one worker process carried 25,600 token chunks/s and 2,000 requests/s; the 2 of this run 2 times that",
        "2026-11-21 14:10:57 UTC, against a native paced server",
        "At least: the highest level held.",
        "TTFT was off by 0.080 ms and ITL by 0.010 ms (p99)",
    ):
        assert part in words
    assert "of this run" not in generator_words(generator(25_600, workers=1))


def printed(one: Calibration, width: int = 140) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(calibration_table(one))
    return capture.get()


def test_the_terminal_shows_each_level_why_one_did_not_hold_and_the_ceiling() -> None:
    text = printed(calibration(lower_bound="the worker shared 2 cores with the ground truth"))
    for part in (
        "25,600",
        "0.040/0.080/0.240",  # values.timing: p50 is half of p99, max three times
        "1024 users: late reads merged 5.0% of the tokens",
        "ceiling of one worker: 25,600 token chunks/s (at 512 users), 2,000 requests/s",
        "TTFT off by 0.080 ms, ITL off by 0.010 ms",
        "a lower bound: the worker shared 2 cores",
    ):
        assert part in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_narrow_terminal_cuts_no_number_and_no_verdict(width: int) -> None:
    text = printed(calibration(), width)
    assert [line for line in text.splitlines() if line.split()[:1] == ["1024"] and " no " in line]
    assert "…" not in text
    assert ("█" in text) == (width == 140)
    assert ("0.040/0.080/0.240" in text) == (width >= 80)


def test_each_level_that_did_not_hold_says_why_on_the_page_too() -> None:
    slow = replace(level(64, held=False), why="the ground truth itself was 2.1 ms late (p99)")
    one = calibration(request_levels=(level(16), slow))
    for text in (render_calibration(one), printed(one)):
        assert "64 users with short answers: the ground truth itself was 2.1 ms late (p99)" in text
        assert "1024 users: late reads merged 5.0% of the tokens" in text
    assert [panel["ceiling"]["value"] for panel in calibration_figures(one)[0].panels] == [25_600, 2_000]


def test_the_page_of_a_calibration_draws_rates_and_errors_and_fetches_nothing() -> None:
    rates, errors = calibration_figures(calibration())
    assert [one["title"] for one in rates.panels] == ["Token chunks/s", "Requests/s, with short answers"]
    assert [one["loads"] for one in rates.panels] == [[16, 512, 1024], [4, 16]]
    assert all(one["logarithmic"] for one in errors.panels)
    assert [point["value"] for point in errors.panels[0]["lines"][1]["points"]] == [0.08, 0.08, 20.0]
    html = render_calibration(calibration())
    assert "ceiling of one worker: 25,600 token chunks/s" in html
    for tag, attributes in parsed(html).tags:
        assert "src" not in attributes, tag
        assert "href" not in attributes, tag


def test_a_level_without_an_answer_has_no_timing_to_show() -> None:
    silent = replace(level(1024, held=False), requests=0, ttft=None, itl=None, offered_chunks_per_s=None)
    mute = calibration(levels=(level(16), silent))
    (row,) = [line for line in printed(mute).splitlines() if line.split()[:1] == ["1024"] and " no " in line]
    assert row.split()[2:5] == ["–", "–", "–"]  # offered, TTFT, ITL
    assert [len(line["points"]) for line in calibration_figures(mute)[1].panels[0]["lines"]] == [1, 1, 1]
