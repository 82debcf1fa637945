"""Tokens per joule: what arrived in the hold over what the topology's GPUs drew in it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.staircase.energy import Energy
from loadstair.analysis.step.power import gpu_power
from loadstair.analysis.step.throughput import SLICES, Window
from loadstair.analysis.summary import summary_json
from loadstair.samples.readings import Readings, Telemetry
from loadstair.units import NS_PER_S
from tests.analysis.synthetic import TP2X2, TP4, SyntheticRun, plan_of, simulate

SERVERS = {"tp4": TP4, "tp2x2": TP2X2}
TWO_GPUS = [
    {
        "name": name,
        "kind": "external",
        "url": "http://127.0.0.1:1",
        "gpus": {"type": "h100-sxm", "count": 2},
    }
    for name in SERVERS
]
RUN = simulate(SERVERS, plan_of(SERVERS, topologies=TWO_GPUS, load={"steps": [4, 16], "hold_s": 6, "repeats": 2}))

Watts = Callable[[str, float, int], float | None]
"""Of a topology at a load, by the GPU's index; None: the board does not tell."""


def powered(
    run: SyntheticRun, watts: Watts, gpus: int = 2, utilization: Callable[[int], float] = lambda _: 0.9
) -> Energy:
    summary = with_power(run, watts, gpus, utilization).summary()
    return summary.topologies["tp4"].energy


def with_power(
    run: SyntheticRun, watts: Watts, gpus: int = 2, utilization: Callable[[int], float] = lambda _: 0.9
) -> SyntheticRun:
    """A DCGM exporter's page, read once a second."""
    rows = []
    for visit in run.run.visits:
        for step in visit.steps:
            for at_ns in range(step.start_ns, step.tail_end_ns + NS_PER_S, NS_PER_S):
                for gpu in range(gpus):
                    source, labels = f"{visit.topology}/page0", f'gpu="{gpu}"'
                    rows.append((at_ns, source, "gpu.utilization", labels, utilization(gpu)))
                    drawn = watts(visit.topology, step.load, gpu)
                    if drawn is not None:
                        rows.append((at_ns, source, "gpu.power_watts", labels, drawn))
    return replace(run, telemetry_rows=tuple(sorted(rows)))


def test_tokens_per_joule_are_the_throughput_over_the_power_of_all_its_gpus() -> None:
    summary = with_power(RUN, lambda _name, _load, gpu: 300.0 if gpu else 200.0).summary()
    topology = summary.topologies["tp4"]
    for step in topology.steps:
        energy = topology.energy.at(step.load)
        assert energy.power_watts == pytest.approx(500)  # 300 + 200
        found = energy.estimate()
        assert found.value == pytest.approx(step.tokens.value / 500)
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high


def test_it_stands_with_the_steps_at_capacity_and_in_the_comparison() -> None:
    run = with_power(RUN, lambda name, _load, _gpu: 400.0 if name == "tp4" else 200.0)
    values = summary_json(run.summary())
    steps = values["topologies"]["tp4"]["steps"]  # type: ignore[index]
    assert steps[1]["telemetry"]["gpu_power_watts"] == pytest.approx(800)  # 2 × 400
    capacity = values["topologies"]["tp4"]["capacity"]  # type: ignore[index]
    assert capacity["output_tokens_per_joule"] == steps[1]["output_tokens_per_joule"]  # it saturates at 16 users
    comparison = values["comparisons"]["tp2x2_vs_tp4"]  # type: ignore[index]
    throughput, per_joule = comparison["throughput_ratio"], comparison["output_tokens_per_joule_ratio"]
    assert per_joule["value"] == pytest.approx(2 * throughput["value"])  # for half of the power
    assert comparison["steps"][1]["output_tokens_per_joule_ratio"] == per_joule


def test_without_power_there_is_none_and_nothing_is_said_of_it() -> None:
    energy = RUN.summary().topologies["tp4"].energy
    assert energy.at(16).estimate().value is None
    assert energy.findings == ()


def test_a_gpu_that_does_not_tell_its_power_is_named_and_the_others_are_no_answer() -> None:
    energy = powered(RUN, lambda _name, _load, gpu: None if gpu else 300.0)
    assert energy.at(16).estimate().value is None
    (found,) = energy.findings
    assert found.message == 'no tokens per joule: page0 gpu="1" did not tell the power all along'


def test_fewer_gpus_than_the_topology_has_are_no_answer() -> None:
    energy = powered(RUN, lambda *_: 300.0, gpus=1)
    assert energy.at(16).power_watts is None
    assert "only 1 of its 2 GPUs were read" in energy.findings[0].message


def test_of_more_gpus_the_busy_ones_are_its_own_if_they_are_as_many() -> None:
    def busy_half(gpu: int) -> float:
        return 0.9 if gpu < 2 else 0.0

    energy = powered(RUN, lambda _name, _load, gpu: 300.0 if gpu < 2 else 70.0, 4, busy_half)
    assert energy.at(16).power_watts == pytest.approx(600)  # 2 × 300
    unclear = powered(RUN, lambda *_: 300.0, gpus=4)
    assert unclear.at(16).power_watts is None
    assert "4 GPUs were read, it has 2" in unclear.findings[0].message


def power_told(times_s: list[float], watts: list[float]) -> Telemetry:
    time_ns = np.array([round(at * NS_PER_S) for at in times_s])
    told = Readings(source="tp4/gpu0", labels="", time_ns=time_ns, value=np.array(watts))
    return Telemetry(by_series={"gpu.power_watts": (told,)})


WINDOW = Window(start_ns=10 * NS_PER_S, end_ns=20 * NS_PER_S)


def test_power_is_the_integral_over_the_window_of_straight_lines_between_the_samples() -> None:
    # 100 W until 14 s, up to 300 W at 16 s, 300 W from there: 4 × 100 + 2 × 200 + 4 × 300 = 2000 J in 10 s.
    (gpu,) = gpu_power(power_told([9, 14, 16, 21], [100, 100, 300, 300]), "tp4", WINDOW)
    assert gpu.watts is not None
    assert gpu.watts.shape == (SLICES,)
    assert gpu.watts.mean() == pytest.approx(200)
    assert (gpu.watts[0], gpu.watts[-1]) == pytest.approx((100, 300))


@pytest.mark.parametrize("times_s", [[12.0, 13.0, 14.0], [9.0, 21.0], [15.0]])
def test_power_that_was_not_read_often_enough_is_unknown(times_s: list[float]) -> None:
    (gpu,) = gpu_power(power_told(times_s, [100.0] * len(times_s)), "tp4", WINDOW)
    assert (gpu.name, gpu.watts) == ("gpu0", None)


def test_power_that_follows_the_load_narrows_the_interval() -> None:
    # Power in step with the tokens: their ratio is steadier than either.
    def relative_width(energy: Energy) -> float:
        found = energy.at(16).estimate()
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        return (found.high - found.low) / found.value

    one = simulate(SERVERS, plan_of(SERVERS, topologies=TWO_GPUS, load={"steps": [16], "hold_s": 6}))
    summary = one.summary()
    tokens = summary.topologies["tp4"].steps[0].pooled[0].tokens.per_slice
    window = summary.topologies["tp4"].steps[0].pooled[0].window
    slice_ns = (window.end_ns - window.start_ns) / SLICES
    rows = [
        (round(window.start_ns + (place + 0.5) * slice_ns), "tp4/page0", "gpu.power_watts", f'gpu="{gpu}"', float(each))
        for gpu in range(2)
        for place, each in enumerate(np.asarray(tokens) / 4)
    ]
    followed = replace(one, telemetry_rows=tuple(sorted(rows))).summary().topologies["tp4"].energy
    steady = powered(one, lambda *_: float(tokens.mean()) / 4)
    assert followed.at(16).estimate().value == pytest.approx(2, rel=0.02)  # 1 / (2 GPUs × ¼)
    assert relative_width(followed) < relative_width(steady)
