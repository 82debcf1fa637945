"""The report of a soak and of a spike: their own sections, and nothing that only a staircase can say."""

from functools import cache
from typing import Any

import pytest

from loadstair.report.page import page
from loadstair.report.render import render_report
from loadstair.report.soak import soak_parts
from loadstair.report.spike import spike_parts
from loadstair.report.steps import Table
from tests.analysis.test_soak import GIB, slower, steady, with_gauges
from tests.analysis.test_spike import calm, overloaded
from tests.report.values import mixed_summary, run_values, summary_of


@cache
def soak_summary() -> dict[str, Any]:
    run = with_gauges(
        slower(steady(), 1.3),
        gpu0__gpu_memory_used_bytes=(60 * GIB, 61 * GIB),
        gpu0__gpu_memory_total_bytes=(80 * GIB, 80 * GIB),
    )
    return summary_of(run)


@cache
def spike_summary() -> dict[str, Any]:
    return summary_of(overloaded(calm()))


def cells(table: Table, label: str) -> dict[str, str]:
    row = next(row for row in table.rows if row.label == label)
    return {column: cell.value for column, cell in zip(table.columns, row.cells, strict=True)}


def test_a_soaks_table_has_every_series_with_its_drift_and_whether_it_is_shown() -> None:
    (part,) = soak_parts(soak_summary())
    ttft = cells(part.table, "TTFT p50, ms")
    assert ttft["Shown"] == "rises"
    assert float(ttft["Over the hold"].removesuffix(" %")) == pytest.approx(26, abs=3)  # 30 % of the start
    memory = cells(part.table, "GPU memory, GiB")
    assert (memory["Mean"], memory["Shown"]) == ("60.5", "rises")
    assert float(memory["Full in, h"]) == pytest.approx(19 / 30, rel=0.1)  # 19 GiB left, 30 an hour
    assert cells(part.table, "Error rate")["Shown"] == "no drift shown"


def test_a_soaks_chart_has_a_panel_for_each_series_over_the_same_windows() -> None:
    (part,) = soak_parts(soak_summary())
    titles = [panel["title"] for panel in part.figure.panels]
    assert titles == [
        "TTFT, ms", "ITL, ms", "TPOT, ms", "E2E, ms", "Output tokens/s", "Requests in flight", "Error rate",
        "GPU memory, GiB",
    ]  # fmt: skip
    for panel in part.figure.panels:
        assert all(len(line["values"]) == len(panel["time_s"]) for line in panel["lines"])
    assert [panel["title"] for panel in part.figure.panels if panel.get("fitted")] == ["GPU memory, GiB"]


def test_a_spikes_table_has_a_row_for_each_repeat() -> None:
    (part,) = spike_parts(spike_summary())
    row = cells(part.table, "1")
    assert float(row["SLO lost after, s"]) == pytest.approx(2, abs=0.1)
    assert float(row["Held again after, s"]) == pytest.approx(6, abs=0.3)
    assert "Time from the surge's end until the SLO held again: " in part.notes[0]


def test_a_spikes_chart_marks_the_surge_the_loss_and_the_recovery() -> None:
    (part,) = spike_parts(spike_summary())
    course = spike_summary()["spike"]["tp4"]["course"]
    for panel in part.figure.panels:
        lost, again = panel["rules"]
        assert lost["at_s"] == pytest.approx(course["surge_start_s"] + 2, abs=0.1)
        assert again["at_s"] == pytest.approx(course["surge_end_s"] + 6, abs=0.3)


def test_a_spike_that_never_lost_the_slo_marks_nothing() -> None:
    (part,) = spike_parts(summary_of(calm()))
    assert part.figure.panels[0]["rules"] == []
    assert cells(part.table, "1")["SLO lost after, s"] == "never"


def test_a_spike_that_did_not_recover_says_how_long_it_was_watched() -> None:
    (part,) = spike_parts(summary_of(overloaded(calm(), recovery_s=1000)))
    assert "not known; watched for 21.0 s" in part.notes[0]
    assert cells(part.table, "1")["Held again after, s"] == "not seen"
    assert "spike.not_recovered" in {finding["id"] for finding in part.findings}


@pytest.mark.parametrize("summary", [soak_summary, spike_summary])
def test_the_page_leaves_out_what_only_a_staircase_can_say(summary: Any) -> None:
    values = summary()
    content = page(values, run_values(steady()))
    assert (content.answer, content.cards, content.against_load) == (None, (), ())
    assert len(content.parts) == 1
    html = render_report(values, "name: x\n", run_values(steady()))
    assert f'<section id="{values["shape"]}"' in html
    assert 'id="capacity"' not in html
    assert content.parts[0].figure.id in html


def test_a_staircase_has_no_such_parts_nor_has_a_summary_of_before_there_were_shapes() -> None:
    summary = mixed_summary()
    for key in ("shape", "soak", "spike"):
        del summary[key]
    content = page(summary, {})
    assert content.parts == ()
    assert content.answer is not None


def test_a_topology_that_was_never_measured_has_no_part() -> None:
    summary = dict(soak_summary())
    summary["soak"] = {"tp4": None}
    assert soak_parts(summary) == ()
