"""The bursts of a matrix, sent by real Locust workers to a scripted server."""

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadstair.drive.matrix import run_tests
from loadstair.drive.session import LoadSession
from loadstair.drive.staircase import Now
from loadstair.errors import TopologyError
from loadstair.plan.matrix import bursts
from loadstair.plan.model import Lengths, Load, Matrix, MatrixTest
from loadstair.samples.runrecord import StepRecord, StepRole
from tests.drive.test_session import Notes, visit_load

LOAD = Load(steps=(1.0, 3.0), request_timeout_s=20.0)
MATRIX = Matrix(
    tests=(
        MatrixTest(id="T1", users=3, input_tokens=Lengths(mean=10), output_tokens=Lengths(mean=5)),
        MatrixTest(id="T2", users=1, input_tokens=Lengths(mean=30), output_tokens=Lengths(mean=9)),
    ),
    runs=2,
    baseline_requests=4,
    warmup_requests=2,
    cooldown_s=0.2,
)
Ran = tuple[Notes, tuple[StepRecord, ...], bool]


@pytest.fixture(scope="module")
def ran(scripted_server: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path_factory.mktemp("log")) as session:
        records, drained = run_tests(session, bursts(MATRIX), LOAD, notes.hooks)
    return notes, records, drained


def test_every_burst_is_a_step_that_says_what_it_was(ran: Ran) -> None:
    _, records, drained = ran
    assert drained
    assert [(record.step, record.test, record.load) for record in records] == list(
        zip(
            range(7),
            ["warmup", "baseline/T1", "baseline/T2", "T1", "T1", "T2", "T2"],
            [1, 1, 1, 3, 3, 1, 1],
            strict=True,
        )
    )


def test_a_burst_sends_as_many_requests_as_it_should_and_no_more(ran: Ran) -> None:
    notes, records, _ = ran
    assert [record.counters.started for record in records] == [2, 4, 4, 3, 3, 1, 1]
    assert all(record.counters.ok == record.counters.started for record in records)
    assert len(notes.rows()) == 18


def test_requests_have_the_lengths_of_their_test(ran: Ran) -> None:
    notes, records, _ = ran
    for row in notes.rows():
        label = str(records[int(str(row["step"]))].test)
        asked = (row["input_tokens_asked"], row["output_tokens_asked"])
        assert asked == ((30, 9) if label.endswith("T2") else (10, 5))
        assert row["phase"] == ("warmup" if label == "warmup" else "hold")


def test_a_burst_is_concurrent_and_a_baseline_is_not(ran: Ran) -> None:
    notes, _, _ = ran
    for step, most in ((1, 1), (3, 3)):
        spans = [(int(str(row["sent_ns"])), int(str(row["end_ns"]))) for row in notes.rows() if row["step"] == step]
        edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
        assert max(itertools.accumulate(change for _, change in edges)) == most


def test_a_steps_window_reaches_from_the_first_dispatch_to_the_last_end(ran: Ran) -> None:
    notes, records, _ = ran
    for record in records:
        rows = [row for row in notes.rows() if row["step"] == record.step]
        assert record.hold_start_ns == min(int(str(row["dispatch_ns"])) for row in rows)
        assert record.hold_end_ns == max(int(str(row["end_ns"])) for row in rows)


def test_users_that_the_server_refuses_send_their_share_all_the_same(scripted_server: str, tmp_path: Path) -> None:
    notes = Notes()
    with LoadSession(visit_load(scripted_server, script="status-500"), workers=1, log_dir=tmp_path) as session:
        records, drained = run_tests(session, bursts(MATRIX)[3:4], LOAD, notes.hooks)
    assert drained
    assert (records[0].counters.started, records[0].counters.failed) == (3, 3)


def test_the_burst_in_which_the_topology_died_is_kept(scripted_server: str, tmp_path: Path) -> None:
    ticks = iter(range(4))

    def tick() -> None:
        if next(ticks, None) is None:
            raise TopologyError("engine0 died")

    notes = Notes(tick)
    load = visit_load(scripted_server, script="stall")
    with pytest.raises(TopologyError), LoadSession(load, workers=1, log_dir=tmp_path) as session:
        run_tests(session, bursts(MATRIX)[3:], LOAD, notes.hooks)
    (record,) = notes.steps
    assert (record.test, record.tail_complete) == ("T1", False)
    assert (record.counters.started, record.counters.killed) == (3, 3)
    assert [row["outcome"] for row in notes.rows()] == ["killed"] * 3


LONG_TESTS = tuple(
    MatrixTest(id=id_, users=4, input_tokens=Lengths(mean=10), output_tokens=Lengths(mean=150)) for id_ in ("T1", "T2")
)
LONG = Matrix(tests=LONG_TESTS, runs=1, baseline_requests=1, warmup_requests=1, cooldown_s=0)


def losing(session: LoadSession, *steps: int) -> Callable[[Now], None]:
    """As a hook on progress: in each of these steps one more worker is killed."""
    workers = iter([f"locust-worker-{number}" for number in range(len(steps))])
    begun: set[int] = set()

    def kill(now: Now) -> None:
        if now.step in steps and now.step not in begun:
            begun.add(now.step)
            os.kill(session.pids[next(workers)], signal.SIGKILL)

    return kill


@pytest.mark.slow
def test_a_burst_in_which_a_worker_was_lost_is_taken_once_more_by_those_that_are_left(
    scripted_server: str, tmp_path: Path
) -> None:
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        hooks = replace(notes.hooks, on_progress=losing(session, 2))
        records, drained = run_tests(session, bursts(LONG), LOAD, hooks)
    assert drained
    told = [
        (record.step, record.test, record.role, len(record.workers), len(record.workers_lost)) for record in records
    ]
    assert told == [
        (0, "warmup", StepRole.PLANNED, 2, 0),
        (1, "baseline/T1", StepRole.PLANNED, 2, 0),
        (2, "T1", StepRole.PLANNED, 2, 1),
        (6, "T1", StepRole.REPEATED, 1, 0),  # the visit has four bursts, 0 to 3
        (3, "T2", StepRole.PLANNED, 1, 0),
    ]
    lost, again = records[2].counters, records[3].counters
    assert (lost.ok, lost.started) == (2, 2 + lost.lost)  # of the four; the killed worker may not have told of its own
    assert (again.started, again.ok, again.lost) == (4, 4, 0)
    assert sum(row["step"] == 6 for row in notes.rows()) == 4


@pytest.mark.slow
def test_a_burst_that_loses_a_worker_again_is_not_taken_a_third_time(scripted_server: str, tmp_path: Path) -> None:
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=3, log_dir=tmp_path) as session:
        hooks = replace(notes.hooks, on_progress=losing(session, 2, 6))
        records, _ = run_tests(session, bursts(LONG), LOAD, hooks)
    assert [(record.step, len(record.workers_lost)) for record in records[2:]] == [(2, 1), (6, 1), (3, 0)]
