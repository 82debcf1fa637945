"""What a summary says where measured and predicted throughput part."""

from dataclasses import replace

from loadstair.analysis.summary import Summary
from loadstair.samples.runrecord import PredictedStep
from tests.analysis.synthetic import Server, plan_of, simulate

SERVER = Server(ttft_ms=lambda _: 20.0, itl_ms=lambda load: 10.0 * max(1.0, load / 16))


def summary_of(shares: dict[float, float]) -> Summary:
    """The forecast is the measured throughput times the share, by load."""
    run = simulate({"a": SERVER}, plan_of({"a": SERVER}, load={"steps": [4, 16], "warmup_s": 3, "hold_s": 10}))
    measured = run.summary()
    values = {step.load: step.tokens.estimate().value for step in measured.topologies["a"].steps}
    told = tuple(
        PredictedStep(topology="a", load=load, output_tokens_per_s=share * values[load], ttft_ms_p50=20.0)
        for load, share in shares.items()
    )
    return replace(run, run=replace(run.run, forecast=told)).summary()


def partings(summary: Summary) -> list[str]:
    return [finding.message for finding in summary.findings if finding.id == "forecast.parted"]


def test_a_forecast_within_a_tenth_is_no_finding() -> None:
    assert partings(summary_of({4: 1.05, 16: 0.95})) == []


def test_the_first_load_at_which_they_part_is_told_with_the_direction() -> None:
    (message,) = partings(summary_of({4: 1.02, 16: 2.0}))
    assert message.startswith("a: measured and predicted part at 16 users: ")
    assert message.endswith("predicted: 50% less than the forecast says")


def test_more_than_was_predicted_is_told_as_more() -> None:
    (message,) = partings(summary_of({4: 0.5}))
    assert message.endswith("predicted: 100% more than the forecast says")


def test_each_step_carries_what_was_foretold_and_null_where_nothing_was() -> None:
    values = summary_of({4: 1.0}).topologies["a"].values()
    told = [step["predicted"] for step in values["steps"]]
    assert told[0]["ttft_ms_p50"] == 20.0
    assert told[1] == {"output_tokens_per_s": None, "ttft_ms_p50": None}
