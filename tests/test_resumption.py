"""What a run that ended early still lacks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadstair.drive.staircase import StepOrder
from loadstair.errors import UsageError
from loadstair.plan.matrix import bursts
from loadstair.plan.model import Plan
from loadstair.resumption import (
    REPLACEMENTS_MAX,
    bursts_left,
    changed_lines,
    continued,
    differences,
    extras_of,
    refuse_another_topology,
    remaining,
    resumed_record,
)
from loadstair.samples.runrecord import Ending, RunRecord, StepRole, VisitRecord
from tests.analysis.matrix_runs import matrix_plan
from tests.analysis.synthetic import Server, plan_of
from tests.samples.test_run_folder import RUN, STEP

SERVER = Server(ttft_ms=lambda _: 20.0, itl_ms=lambda _: 10.0)
LATER = "2026-03-04T06:00:00+00:00"


def two_topologies(**load: Any) -> Plan:
    return plan_of({"a": SERVER, "b": SERVER}, load={"steps": [2, 4, 8], "repeats": 2, **load})


def visit(number: int, topology: str, repeat: int, steps: tuple[int, ...], **others: Any) -> VisitRecord:
    return VisitRecord(
        visit=number,
        topology=topology,
        repeat=repeat,
        steps=tuple(replace(STEP, step=step) for step in steps),
        server_before=None,
        server_after=None,
        **{"drained": False, **others},
    )


def broken(*visits: VisitRecord) -> RunRecord:
    return replace(RUN, visits=visits, ending=Ending.TOPOLOGY_FAILED, ending_message="a: engine0 died")


def left(plan: Plan, record: RunRecord) -> list[tuple[int, str, int, list[int]]]:
    return [
        (one.visit.visit, one.visit.topology.name, one.visit.repeat, sorted(one.steps_done))
        for one in remaining(plan, record)
    ]


def test_a_new_run_has_all_of_its_visits_before_it() -> None:
    assert left(two_topologies(), replace(RUN, visits=())) == [
        (0, "a", 0, []), (1, "b", 0, []), (2, "b", 1, []), (3, "a", 1, []),
    ]  # fmt: skip


def test_a_resumed_run_completes_the_broken_visit_and_numbers_on() -> None:
    record = broken(visit(0, "a", 0, (0, 1, 2), finished=True), visit(1, "b", 0, (0,)))
    once = resumed_record(record, now=LATER)
    assert left(two_topologies(), once) == [(5, "b", 0, [0]), (6, "b", 1, []), (7, "a", 1, [])]
    twice = resumed_record(replace(once, visits=(*once.visits, visit(5, "b", 0, (1,)))), now=LATER)
    assert left(two_topologies(), twice) == [(9, "b", 0, [0, 1]), (10, "b", 1, []), (11, "a", 1, [])]


def test_an_older_version_noted_the_drain_alone() -> None:
    record = broken(visit(0, "a", 0, (0, 1, 2), drained=True))
    assert [one.visit.repeat for one in remaining(two_topologies(), record) if one.visit.topology.name == "a"] == [1]


def test_how_the_run_had_ended_is_kept_with_the_visit_that_broke_off() -> None:
    record = resumed_record(broken(visit(0, "a", 0, (0, 1, 2), finished=True), visit(1, "b", 0, (0,))), now=LATER)
    assert (record.ending, record.ending_message, record.resumed) == (Ending.RUNNING, None, (LATER,))
    assert [one.broke_off for one in record.visits] == [None, Ending.TOPOLOGY_FAILED]
    assert record.visits[1].broke_off_message == "a: engine0 died"


def test_a_run_that_broke_off_before_its_first_step_begins_again() -> None:
    assert left(two_topologies(), resumed_record(broken(), now=LATER))[0] == (4, "a", 0, [])


def lost_at(number: int, topology: str, steps: tuple[int, ...]) -> VisitRecord:
    """Its last step lost a worker, and the visit ended with it in order."""
    how = {"drained": True, "broke_off": Ending.LOAD_FAILED, "broke_off_message": "worker-1 lost"}
    made = visit(number, topology, 0, steps, **how)
    return replace(made, steps=(*made.steps[:-1], replace(made.steps[-1], workers_lost=("worker-1",))))


def test_a_visit_with_lost_workers_is_not_over_and_another_goes_on_with_it() -> None:
    plan = two_topologies(on_worker_lost="replace")
    (one, *_) = remaining(plan, replace(RUN, visits=()))
    broken_off = lost_at(0, "a", (0, 1))
    rest = continued(plan, replace(RUN, visits=(broken_off,)), one)
    assert (rest.visit.visit, rest.visit.topology.name, rest.visit.repeat) == (4, "a", 0)  # the plan has 0 to 3
    assert rest.earlier == (broken_off,)
    assert left(plan, replace(RUN, visits=(broken_off,)))[0] == (0, "a", 0, [0, 1])


def test_no_two_visits_have_one_number_however_often_workers_are_replaced_and_the_run_resumed() -> None:
    plan = two_topologies(on_worker_lost="replace")
    numbers = []
    for resumed in ((), (LATER,), (LATER, LATER)):
        record = replace(RUN, visits=(), resumed=resumed)
        for one in remaining(plan, record):
            for _ in range(1 + REPLACEMENTS_MAX):
                numbers.append(one.visit.visit)
                one = continued(plan, record, one)
    assert sorted(numbers) == list(range(4 * (1 + REPLACEMENTS_MAX) * 3))


def test_a_run_that_goes_on_without_lost_workers_numbers_its_visits_as_ever() -> None:
    assert left(two_topologies(), replace(RUN, visits=(), resumed=(LATER,)))[0] == (4, "a", 0, [])


def test_a_spike_in_which_workers_were_lost_and_replaced_is_taken_as_a_whole_again() -> None:
    spike = {"shape": "spike", "steps": [4, 16], "hold_s": 6, "surge_s": 3}
    for on_worker_lost, kept in (("replace", ()), ("go_on", (0, 1, 2))):
        plan = plan_of({"a": SERVER}, load=spike | {"on_worker_lost": on_worker_lost}, slo={"ttft_ms_p99": 100})
        (one,) = remaining(plan, broken(lost_at(0, "a", (0, 1, 2))))
        assert tuple(sorted(one.steps_done)) == kept


def test_a_spike_is_taken_as_a_whole_again() -> None:
    spike = {"shape": "spike", "steps": [4, 16], "hold_s": 6, "surge_s": 3}
    plan = plan_of({"a": SERVER}, load=spike, slo={"ttft_ms_p99": 100})
    (one,) = remaining(plan, broken(visit(0, "a", 0, (0, 1))))
    assert one.earlier == ()


def test_a_matrix_goes_on_after_its_last_finished_burst_with_the_warm_up_once_more() -> None:
    plan = matrix_plan()
    assert plan.matrix is not None
    every = bursts(plan.matrix)
    name = plan.topologies[0].name
    (one, *_) = remaining(plan, broken(visit(0, name, 0, tuple(range(len(every) - 1)))))
    warm_ups = [burst for burst in every if burst.label == "warmup"]
    assert list(bursts_left(plan.matrix, one)) == [*warm_ups, every[-1]]
    (one, *_) = remaining(plan, broken(visit(0, name, 0, tuple(range(len(every))))))
    assert bursts_left(plan.matrix, one) == ()


def test_a_burst_that_lost_a_worker_is_taken_once_more_unless_it_was() -> None:
    plan = matrix_plan()
    assert plan.matrix is not None
    every = bursts(plan.matrix)
    warm_ups = [burst for burst in every if burst.label == "warmup"]
    name, lost = plan.topologies[0].name, every[3]
    all_taken = visit(0, name, 0, tuple(range(len(every))))
    steps = tuple(
        replace(step, workers_lost=("worker-0",)) if step.step == lost.step else step for step in all_taken.steps
    )
    broke_off = replace(all_taken, steps=steps)
    (one, *_) = remaining(plan, broken(broke_off))
    assert list(bursts_left(plan.matrix, one)) == [*warm_ups, lost.once_more()]
    again = replace(STEP, step=lost.once_more().step, workers_lost=("worker-1",))  # lost once more: it stays so
    (one, *_) = remaining(plan, broken(replace(broke_off, steps=(*steps, again))))
    assert bursts_left(plan.matrix, one) == ()


def test_steps_that_the_first_repeat_added_are_known_to_the_later_ones() -> None:
    added = replace(STEP, step=3, load=6.0, role=StepRole.REFINED)
    first = replace(visit(0, "a", 0, (0, 1, 2)), finished=True)
    record = broken(replace(first, steps=(*first.steps, added)))
    assert extras_of(record, "a") == [StepOrder(step=3, load=6.0, role=StepRole.REFINED)]
    assert extras_of(record, "b") == []


def test_a_difference_names_the_value_and_both_sides() -> None:
    before = {"load": {"steps": [1, 2], "hold_s": 3.0}, "slo": None}
    now = {"load": {"steps": [1, 4], "hold_s": 3.0}, "slo": {"ttft": 5}}
    assert differences(before, now) == ["load.steps[1] is 4, was 2", 'slo is {"ttft": 5}, was nothing']
    assert differences(before, before) == []


def test_another_topology_is_refused_and_one_as_before_is_not() -> None:
    seen = {"kind": "external", "seen": {"models": ("m",), "version": "0.6"}}
    before = {"kind": "external", "seen": {"models": ["m"], "version": "0.5"}}  # as JSON has it
    with pytest.raises(UsageError, match=r'topology a: not what run was .*: seen.version is "0.6", was "0.5"'):
        refuse_another_topology(Path("run"), "a", before, seen)
    refuse_another_topology(Path("run"), "a", before | {"seen": {"models": ["m"], "version": "0.6"}}, seen)


def test_a_topology_is_the_same_as_in_an_earlier_visit_of_the_same_resumption() -> None:
    seen = {"kind": "simulated", "seen": {"models": ("m",)}}
    refuse_another_topology(Path("run"), "a", seen, dict(seen))


def test_another_machine_is_told() -> None:
    assert changed_lines(RUN, RUN) == []
    assert changed_lines(RUN, replace(RUN, host={"cpus": 4})) == [
        "resumed elsewhere than it began: host.cpus is 4, was 2"
    ]
