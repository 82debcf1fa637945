"""Where a staircase failed, and of what. `test_matrix.py` has each kind that a response can tell."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadstair.analysis.staircase.failure_point import FailurePoint
from loadstair.analysis.step.failures import FailureKind
from loadstair.analysis.summary import summary_json
from loadstair.samples.record import Outcome, RequestSample
from loadstair.samples.runrecord import Ending
from tests.analysis.synthetic import Server, SyntheticRun, failed, plan_of, simulate

SERVER = Server(ttft_ms=lambda _: 5, itl_ms=lambda _: 5, noise=0.02)
RUN = simulate({"one": SERVER}, plan_of({"one": SERVER}, load={"steps": [1, 4, 8], "hold_s": 3, "repeats": 1}))


def changed_at(load: float, change: Callable[[RequestSample], RequestSample], *, every: int = 1) -> SyntheticRun:
    return RUN.with_rows(lambda row: change(row) if row.load == load and row.index % every == 0 else row).recounted()


def point(run: SyntheticRun) -> FailurePoint | None:
    return run.summary().topologies["one"].failure


def test_where_nothing_failed_there_is_no_failure_point() -> None:
    assert point(RUN) is None
    capacity = summary_json(RUN.summary())["topologies"]["one"]["capacity"]
    assert (capacity["failure_load"], capacity["failure_kind"], capacity["failure_message"]) == (None, None, None)


def test_it_is_the_first_load_with_what_happened_there_most_often() -> None:
    run = changed_at(4, lambda row: failed(row, Outcome.TIMEOUT) if row.index % 3 else failed(row))
    found = point(run)
    assert found is not None
    assert (found.load, found.kind) == (4, FailureKind.TIMEOUT)


def test_out_of_memory_is_named_however_seldom_it_was_said() -> None:
    def change(row: RequestSample) -> RequestSample:
        return replace(failed(row), error="CUDA out of memory") if row.index == 0 else failed(row)

    found = point(changed_at(8, change))
    assert found is not None
    assert (found.load, found.kind, found.message) == (8, FailureKind.OUT_OF_MEMORY, "CUDA out of memory")


def test_a_request_that_was_merely_cut_off_is_no_failure() -> None:
    assert point(changed_at(8, lambda row: failed(row, Outcome.KILLED), every=5)) is None


def test_requests_that_were_cut_off_do_not_outvote_one_that_failed() -> None:
    run = changed_at(8, lambda row: failed(row) if row.index == 0 else failed(row, Outcome.KILLED))
    found = point(run)
    assert found is not None
    assert (found.kind, found.message) == (FailureKind.SERVER_ERROR, "503 Service Unavailable")


@pytest.mark.parametrize(
    ("message", "kind"),
    [("engine0 died: CUDA out of memory", FailureKind.OUT_OF_MEMORY), ("engine0 died", FailureKind.SERVER_ERROR)],
)
def test_a_topology_that_died_failed_there_and_its_last_words_say_of_what(message: str, kind: FailureKind) -> None:
    run = changed_at(8, lambda row: failed(row, Outcome.KILLED), every=5)
    (visit,) = run.run.visits
    steps = (*visit.steps[:-1], replace(visit.steps[-1], tail_complete=False))
    record = replace(
        run.run,
        visits=(replace(visit, steps=steps, drained=False),),
        ending=Ending.TOPOLOGY_FAILED,
        ending_message=message,
    )
    found = point(replace(run, run=record))
    assert found is not None
    assert (found.load, found.kind, found.message) == (8, kind, f"the server died: {message}")


def test_a_death_stays_one_when_the_run_was_resumed_after_it() -> None:
    run = changed_at(8, lambda row: failed(row, Outcome.KILLED), every=5)
    (visit,) = run.run.visits
    steps = (*visit.steps[:-1], replace(visit.steps[-1], tail_complete=False))
    died = {"broke_off": Ending.TOPOLOGY_FAILED, "broke_off_message": "engine0 died"}
    record = replace(run.run, visits=(replace(visit, steps=steps, drained=False, **died),))
    found = point(replace(run, run=record))
    assert found is not None
    assert (found.load, found.message) == (8, "the server died: engine0 died")


def test_a_visit_that_got_to_its_end_did_not_die_in_a_run_that_went_on_without_another_topology() -> None:
    (visit,) = RUN.run.visits
    steps = (*visit.steps[:-1], replace(visit.steps[-1], tail_complete=False))
    record = replace(
        RUN.run,
        visits=(replace(visit, steps=steps, finished=True),),
        ending=Ending.TOPOLOGY_FAILED,
        ending_message="another failed, the run went on with the rest: topology another: engine0 died",
    )
    assert point(replace(RUN, run=record)) is None
