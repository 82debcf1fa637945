"""The tables of steps and of comparisons, as rows of words."""

from loadstair.report.page import page
from loadstair.report.render import render_report
from loadstair.report.steps import Steps, steps
from loadstair.report.versus import versus
from tests.report.values import mixed_summary, single_run, summary_of

PLACES = {"tp4": 0, "tp2x2": 1}


def of(name: str, summary: dict[str, object] | None = None) -> Steps:
    values = summary or mixed_summary()
    return steps(name, values["topologies"][name], 0, "users")  # type: ignore[index]


def test_an_invalid_step_stands_in_the_table_with_its_reasons() -> None:
    *valid, invalid = of("tp4").main.rows
    assert [(row.label, row.valid, row.reasons) for row in valid] == [("4", True, ()), ("16", True, ())]
    assert not invalid.valid
    assert "the load generator was too slow" in invalid.reasons[0]["message"]


def test_a_step_that_was_added_or_taken_again_says_why() -> None:
    summary = mixed_summary()
    first, second, _ = summary["topologies"]["tp4"]["steps"]
    first["visits"][0]["role"] = "refined"
    second["visits"] = [{"role": "planned"}, {"role": "repeated"}]
    assert [row.note for row in of("tp4", summary).main.rows] == ["added near the knee", "taken again", ""]


def test_a_climb_that_ended_early_says_why_below_its_steps() -> None:
    summary = mixed_summary()
    summary["topologies"]["tp4"]["stopped"] = ["requests failed at load 64"]
    assert of("tp4", summary).stopped == ("requests failed at load 64",)
    assert "Ended early: requests failed at load 64." in render_report(summary, "", {})


def test_every_row_has_a_cell_for_each_column() -> None:
    for one in (of("tp4"), of("tp4", summary_of(single_run()))):
        for table in (one.main, *one.percentiles, one.meanwhile):
            for row in table.rows:
                assert len(row.cells) == len(table.columns), table.caption


def test_a_violated_limit_is_named_and_without_an_slo_there_is_no_such_column() -> None:
    main = of("tp2x2").main
    slo = main.columns.index("SLO")
    assert [row.cells[slo].value for row in main.rows] == ["met", "met", "violated"]
    assert main.rows[-1].cells[slo].interval == "ttft_ms_p99"
    assert "SLO" not in of("tp4", summary_of(single_run())).main.columns


def test_the_percentile_tables_hold_what_the_charts_draw() -> None:
    captions = [table.caption.split("(")[1].split(")")[0] for table in of("tp4").percentiles]
    assert captions == ["TTFT", "ITL", "TPOT", "E2E"]
    assert of("tp4").percentiles[0].columns == ("mean", "p50", "p90", "p99", "samples")


def test_a_warning_that_several_steps_share_is_told_once() -> None:
    summary = mixed_summary()
    for step in summary["topologies"]["tp4"]["steps"]:
        step["warnings"] = [{"id": "w", "severity": "warning", "message": "few samples"}]
    assert of("tp4", summary).warnings == ("at 4 users: few samples (likewise at 16, 64 users)",)


def test_a_winner_is_named_by_what_is_better_not_by_what_is_higher() -> None:
    (one,) = mixed_summary()["comparisons"].values()
    step = one["steps"][0]
    step["throughput_ratio"].update(value=1.2, low=1.1, high=1.3, claim="higher")
    step["ttft_p50_ratio"].update(value=1.2, low=1.1, high=1.3, claim="higher")
    step["itl_p50_ratio"].update(value=0.9, low=0.8, high=1.1, claim=None)
    row = versus(one, PLACES, "users").by_load[0]
    throughput, _, ttft, itl, _ = row.ratios
    assert (throughput.words, throughput.winner) == ("tp2x2 better", 1)
    assert (ttft.words, ttft.winner) == ("tp4 better", 0)  # a higher TTFT is a worse one
    assert (itl.words, itl.winner) == ("inside the noise", None)
    assert (throughput.value, throughput.interval) == ("1.20×", "[1.10, 1.30]")


def test_a_ratio_that_is_not_known_says_so() -> None:
    (one,) = mixed_summary()["comparisons"].values()
    one["steps"][0]["e2e_p50_ratio"].update(value=None, low=None, high=None, claim=None)
    assert versus(one, PLACES, "users").by_load[0].ratios[-1].words == "not measured"
    assert versus(one, PLACES, "users").by_load[0].ratios[-1].value == "–"


def test_tls_without_verification_has_its_badge() -> None:
    summary = mixed_summary()
    shown = "TLS without verification"
    assert shown not in [badge.text for badge in page(summary, {}).badges]
    summary["findings"].append({"id": "tls.unverified", "severity": "warning", "message": "m"})
    assert shown in [badge.text for badge in page(summary, {}).badges]


def test_simulated_engines_are_called_a_forecast_at_the_top_and_what_was_asked_stands_beside() -> None:
    summary = mixed_summary()
    forecast = "simulated engines: a forecast"
    assert forecast not in [badge.text for badge in page(summary, {}).badges]
    summary["topologies"]["tp4"]["kind"] = "simulated"
    shown = page(summary, {})
    assert forecast in [badge.text for badge in shown.badges]
    assert shown.subject == "Qwen/Qwen2.5-32B-Instruct, chat: prompts of 128 tokens (cv 0.2), answers of 32 (cv 0.2)"
