"""An open loop is judged by how punctual it was, and by what came of what was due."""

from collections.abc import Callable
from dataclasses import replace

from loadstair.analysis.step.pool import LoadStep
from loadstair.samples.record import RequestSample
from loadstair.units import NS_PER_MS
from tests.analysis.synthetic import TP4, SyntheticRun, plan_of, simulate

SERVERS = {"tp4": TP4}


def open_run(late_ms: Callable[[RequestSample], float], **load: object) -> SyntheticRun:
    """Each request was due so long before its dispatch."""
    plan = plan_of(SERVERS, load={"mode": "open", "steps": [4, 16], "hold_s": 6, **load}, slo={"ttft_ms_p90": 300})
    run = simulate(SERVERS, plan)
    return run.with_rows(lambda row: replace(row, due_ns=row.dispatch_ns - round(late_ms(row) * NS_PER_MS)))


def last_step(run: SyntheticRun) -> LoadStep:
    return run.summary().topologies["tp4"].steps[-1]


def ids(step: LoadStep) -> list[str]:
    return [finding.id for finding in (*step.reasons, *step.warnings)]


def held_back(run: SyntheticRun, count: int, *, unsent: int = 0) -> SyntheticRun:
    visit = run.run.visits[0]
    steps = tuple(
        replace(
            step,
            counters=replace(step.counters, scheduled=step.counters.started + unsent, held_back=count),
        )
        for step in visit.steps
    )
    return replace(run, run=replace(run.run, visits=(replace(visit, steps=steps),)))


def test_requests_sent_when_due_are_valid_and_their_ttft_is_told_from_both_times() -> None:
    step = last_step(open_run(lambda _: 1.0))
    assert (step.valid, ids(step)) == (True, [])
    assert step.latency["ttft_due"].n == step.latency["ttft"].n > 0


def test_a_dispatcher_that_is_late_makes_the_step_invalid() -> None:
    run = open_run(lambda row: 30.0 if row.index % 5 == 0 else 1.0)
    assert [finding.id for finding in last_step(run).reasons] == ["generator.dispatch_lag"]


def test_what_the_limit_held_back_is_told_and_is_not_the_generators_fault() -> None:
    late = open_run(lambda row: 400.0 if row.index % 5 == 0 else 1.0, max_in_flight=16)
    step = last_step(held_back(late, sum(row.index % 5 == 0 and row.step == 1 for row in late.rows)))
    assert step.valid
    assert "arrivals.held_back" in ids(step)


def test_the_slo_counts_from_when_a_request_was_due() -> None:
    punctual = last_step(open_run(lambda _: 1.0))
    late = open_run(lambda row: 400.0 if row.index % 5 == 0 else 1.0, max_in_flight=16)
    step = last_step(held_back(late, sum(row.index % 5 == 0 and row.step == 1 for row in late.rows)))
    assert (punctual.slo_met, step.slo_met) == (True, False)
    assert punctual.good is not None
    assert step.good is not None
    assert step.good.value < punctual.good.value


def test_a_request_that_was_due_and_never_sent_makes_the_step_invalid() -> None:
    step = last_step(held_back(open_run(lambda _: 1.0), 0, unsent=2))
    assert [finding.id for finding in step.reasons] == ["arrivals.unsent"]
    assert "2 of " in step.reasons[0].message
