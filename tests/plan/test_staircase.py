"""The order of visits, and the quick variant."""

import copy
from pathlib import Path

from loadstair.plan.model import Plan
from loadstair.plan.parse import parse_plan, read_plan
from loadstair.plan.staircase import expected_duration_s, quick, visits
from tests.plan.test_parse import PLANS, SIMULATED


def two_topologies(repeats: int) -> Plan:
    raw = copy.deepcopy(SIMULATED)
    raw["topologies"].append(raw["topologies"][0] | {"name": "other"})
    raw["load"]["repeats"] = repeats
    return parse_plan(raw, "demo.yaml")


def test_repeats_mirror_the_order_of_the_topologies() -> None:
    order = [visit.topology.name for visit in visits(two_topologies(3))]
    assert order == ["tp4", "other", "other", "tp4", "tp4", "other"]


def test_visits_are_numbered_in_order_and_know_their_repeat() -> None:
    assert [(visit.visit, visit.repeat) for visit in visits(two_topologies(2))] == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_quick_keeps_four_steps_with_both_ends_and_one_repeat() -> None:
    plan = quick(read_plan(Path(PLANS / "quickstart.yaml")), lambda _topology, _load: 1.0)
    assert plan.load.steps == (1, 8, 16, 64)  # positions 0, 2, 3, 5 of six
    assert plan.load.repeats == 1


def test_the_expected_duration_adds_up_over_visits_and_steps() -> None:
    plan = two_topologies(1)  # 2 visits of 2 steps: warm-up 5 s, hold 5 s, tail 1 s; cool-down 3 s, start 4 s
    assert expected_duration_s(plan, lambda _topology, _load: 1.0) == 2 * (4 + 3 + 2 * (5 + 5 + 1))


def test_a_quick_hold_stays_longer_than_two_requests() -> None:
    plan = read_plan(Path(PLANS / "quickstart.yaml"))  # hold 5 s
    assert quick(plan, lambda _topology, _load: 2.2).load.hold_s == 4.4  # 2 × 2.2, more than the 4 s of a quick hold
    assert quick(plan, lambda _topology, _load: 9.0).load.hold_s == 5.0  # never longer than the plan's own
    assert quick(plan, lambda _topology, _load: None).load.hold_s == 2.5  # not known: half of the plan's


def spike(**load: object) -> Plan:
    raw = copy.deepcopy(SIMULATED)
    raw["load"] = {"shape": "spike", "steps": [4, 16], **load}
    raw["slo"] = {"ttft_ms_p90": 200}
    return parse_plan(raw, "spike.yaml")


def test_a_quick_spike_keeps_its_loads_and_has_a_third_of_its_times() -> None:
    load = quick(spike(hold_s=30, surge_s=15, repeats=2), lambda _topology, _load: None).load
    assert (load.steps, load.hold_s, load.surge_s, load.recovery_s, load.repeats) == ((4, 16), 10, 5, None, 1)


def test_a_spikes_duration_counts_its_three_steps() -> None:
    plan = spike(warmup_s=2, hold_s=10, surge_s=5, cooldown_s=1)
    # start 4, warm-up 2, hold 10, surge 5, recovery 3 × 10 and a request's tail of 2, cool-down 1
    assert expected_duration_s(plan, lambda _topology, _load: 2.0) == 4 + 2 + 10 + 5 + 30 + 2 + 1
