from typing import Any

import pytest

from loadstair.report.charts import Figure, chart_data
from loadstair.report.charts_load import answer_figure, latency_figures, requests_figure
from loadstair.report.charts_time import balance_figures, time_figures
from tests.report.values import four_run, mixed_summary, single_run, summary_of

UNKNOWN = {"value": None, "low": None, "high": None, "n": 3}


def panel(figure: Figure, title: str) -> dict[str, Any]:
    return next(one for one in figure.panels if one["title"].startswith(title))


def loads(line: dict[str, Any]) -> list[float]:
    return [point["load"] for point in line["points"]]


def test_the_answer_has_a_line_for_each_topology_and_tells_invalid_steps() -> None:
    throughput, ttft = answer_figure(mixed_summary()).panels
    assert [(line["name"], loads(line)) for line in throughput["lines"]] == [
        ("tp4", [4, 16, 64]),
        ("tp2x2", [4, 16, 64]),
    ]
    assert [point["valid"] for point in throughput["lines"][0]["points"]] == [True, True, False]
    assert ttft["title"] == "TTFT p99, ms (SLO 150 ms)"
    assert ttft["limit"]["value"] == 150


def test_what_the_gpus_can_do_at_most_is_drawn_where_it_is_known_and_told_as_a_share() -> None:
    summary = mixed_summary()
    for step, ceiling in zip(summary["topologies"]["tp4"]["steps"], (2_000.0, 8_000.0, None), strict=True):
        step["physical_ceiling_tokens_per_s"] = ceiling
        step["output_tokens_per_s"]["value"] = 1_000.0
    for step in summary["topologies"]["tp2x2"]["steps"]:
        del step["physical_ceiling_tokens_per_s"]  # as a summary that was made before there was one
    figure = answer_figure(summary)
    assert figure.panels[0]["physical"] == [{"style": 0, "points": [[4, 2_000.0], [16, 8_000.0]]}]
    assert "12.5 % to 50.0 % of it was measured" in figure.note


def test_what_was_foretold_is_drawn_dashed_beside_what_was_measured() -> None:
    summary = mixed_summary()
    assert "Dashed: what the forecast said." not in answer_figure(summary).note
    for step, tokens in zip(summary["topologies"]["tp2x2"]["steps"], (900.0, 2_500.0, None), strict=True):
        step["predicted"] = {"output_tokens_per_s": tokens, "ttft_ms_p50": None}
    for step in summary["topologies"]["tp4"]["steps"]:
        del step["predicted"]  # as a summary that was made before there was one
    figure = answer_figure(summary)
    assert figure.panels[0]["predicted"] == [{"style": 1, "points": [[4, 900.0], [16, 2_500.0]]}]
    assert "Dashed: what the forecast said." in figure.note


def test_a_p50_stands_beside_the_p99_of_the_topology_that_lacks_one_and_the_note_says_why() -> None:
    summary = mixed_summary()
    summary["topologies"]["tp4"]["steps"][0]["ttft_ms"]["p99"] = UNKNOWN
    figure = answer_figure(summary)
    lines = figure.panels[1]["lines"]
    assert [(line["name"], line["dashed"], loads(line)) for line in lines] == [
        ("tp4", False, [16, 64]),
        ("tp2x2", False, [4, 16, 64]),
        ("tp4", True, [4, 16, 64]),
    ]
    assert "needs 100 requests" in figure.note
    assert "dashed p50" in figure.panels[1]["title"]
    assert not any(line["dashed"] for line in answer_figure(mixed_summary()).panels[1]["lines"])


def test_a_knee_stands_on_its_step_and_a_crossover_has_its_interval() -> None:
    summary = mixed_summary()
    summary["topologies"]["tp2x2"]["capacity"]["knee_load"] = 16
    crossing = summary["comparisons"]["tp2x2_vs_tp4"]["throughput_crossover_load"]
    crossing.update(value=17.2, low=15.1, high=19.0)
    throughput = answer_figure(summary).panels[0]
    value = summary["topologies"]["tp2x2"]["steps"][1]["output_tokens_per_s"]["value"]
    assert throughput["marks"] == [{"style": 1, "load": 16, "value": value, "text": "knee"}]
    assert throughput["spans"] == [{"value": 17.2, "low": 15.1, "high": 19.0, "text": "tp4 = tp2x2 near 17 users"}]


def test_a_crossover_without_an_interval_is_not_drawn() -> None:
    summary = mixed_summary()
    summary["comparisons"]["tp2x2_vs_tp4"]["throughput_crossover_load"].update(value=17.2, low=None, high=None)
    assert answer_figure(summary).panels[0]["spans"] == []


def test_every_latency_has_a_panel_for_each_percentile() -> None:
    figures = latency_figures(mixed_summary())
    assert [figure.id for figure in figures] == ["ttft", "itl", "tpot", "e2e"]
    for figure in figures:
        assert [one["title"].split()[0] for one in figure.panels] == ["p50", "p90", "p99"]


def test_an_end_to_end_limit_of_the_slo_is_drawn_in_milliseconds() -> None:
    summary = mixed_summary()
    for topology in summary["topologies"].values():
        for step in topology["steps"]:
            step["slo"].append({"name": "e2e_s_p90", "limit": 2.5, "share_beyond": 0.0, "met": True})
    e2e = latency_figures(summary)[-1]
    assert [one["limit"] and one["limit"]["value"] for one in e2e.panels] == [None, 2500, None]  # 2.5 s


def test_a_goodput_of_nothing_is_drawn_and_an_unknown_error_rate_is_no_good_news() -> None:
    summary = mixed_summary()
    for topology in summary["topologies"].values():
        for step in topology["steps"]:
            step["goodput_rps"] = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 9}
            step["error_rate"] = {"value": None, "low": None, "high": None, "n": 0}
    figure = requests_figure(summary)
    assert [panel["title"] for panel in figure.panels][1] == "Goodput, requests/s within the SLO"
    assert figure.note == ""


def test_goodput_is_drawn_where_there_is_an_slo_and_failures_where_there_are_some() -> None:
    with_slo = requests_figure(mixed_summary())
    assert [one["title"].split(",")[0] for one in with_slo.panels] == ["Completed requests/s", "Goodput"]
    assert "No request failed." in with_slo.note
    summary = summary_of(single_run())
    summary["topologies"]["tp4"]["steps"][0]["error_rate"] = {"value": 0.02, "low": 0.01, "high": 0.04, "n": 50}
    failing = requests_figure(summary)
    assert [one["title"].split(",")[0] for one in failing.panels] == ["Completed requests/s", "Failed requests"]
    assert failing.panels[1]["lines"][0]["points"][0]["text"] == "2.0 % [1.0 %, 4.0 %]"


def test_over_time_each_topology_has_its_requests_and_its_cache() -> None:
    figures = time_figures(mixed_summary())
    assert [figure.title for figure in figures] == ["tp4 over time", "tp2x2 over time"]
    assert figures[0].note.startswith("One visit, of the first of 2 repeats, seconds since")
    requests, cache = figures[0].panels
    assert [line["name"] for line in requests["lines"]] == [
        "in flight (clients)",
        "running (engines)",
        "waiting (engines)",
    ]
    assert [step["text"] for step in requests["steps"]] == ["4", "16", "64"]
    assert max(value for value in requests["lines"][1]["values"] if value is not None) == 64  # 2 engines, 32 each
    assert cache["percent"] is True


def test_engines_that_tell_nothing_leave_the_clients_requests_and_a_note() -> None:
    (figure,) = time_figures(summary_of(single_run()))
    assert [[line["name"] for line in one["lines"]] for one in figure.panels] == [["in flight (clients)"]]
    assert "told nothing" in figure.note
    assert figure.note.startswith("One visit, seconds since")


def test_the_balance_is_drawn_where_there_is_something_to_balance() -> None:
    summary = mixed_summary()
    for step in summary["timelines"]["tp4"]["steps"]:
        step["upstreams"] = {"127.0.0.1:9000": 1.0}
    (figure,) = balance_figures(summary)
    assert figure.title.startswith("tp2x2")
    (bars,) = figure.panels
    assert bars["loads"] == ["4", "16", "64"]
    for shares in zip(*(part["shares"] for part in bars["parts"]), strict=True):
        assert sum(shares) == pytest.approx(1)


def test_each_of_four_topologies_keeps_its_colour_and_symbol_in_every_chart() -> None:
    summary = summary_of(four_run())
    for figure in (answer_figure(summary), *latency_figures(summary), requests_figure(summary)):
        assert [(key.name, key.style) for key in figure.keys] == [
            (name, place) for place, name in enumerate(("tp8", "tp4x2", "tp2x4", "tp1x8"))
        ]
        for one in figure.panels:
            for line in one["lines"]:
                assert line["style"] == list(summary["topologies"]).index(line["name"])


def test_the_data_block_has_every_figure_with_its_panels() -> None:
    figures = [answer_figure(mixed_summary()), *time_figures(mixed_summary())]
    data = chart_data(mixed_summary(), figures)
    assert (data["x"], data["loads"]) == ("users", [4, 16, 64])
    assert [(one["id"], len(one["panels"])) for one in data["figures"]] == [("answer", 2), ("time-0", 2), ("time-1", 2)]
