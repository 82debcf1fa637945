"""Every reason is provoked in a run that is valid without it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.model import Engine, Prefix
from loadstair.samples.record import Outcome, Phase, RequestSample, StampClock
from loadstair.samples.runrecord import StepRecord, VisitRecord
from tests.analysis.synthetic import TP4, SyntheticRun, failed, plan_of, simulate

SERVERS = {"tp4": TP4}
RUN = simulate(SERVERS, plan_of(SERVERS, load={"steps": [4, 16], "hold_s": 6}))
REPEATED = simulate(SERVERS, plan_of(SERVERS, load={"steps": [4, 16], "hold_s": 4, "repeats": 2}))


def last_step(run: SyntheticRun) -> LoadStep:
    return run.summary().topologies["tp4"].steps[-1]


def reasons(run: SyntheticRun) -> list[str]:
    return [finding.id for finding in last_step(run).reasons]


def warnings(run: SyntheticRun) -> list[str]:
    return [finding.id for finding in last_step(run).warnings]


def in_last_step(change: Callable[[RequestSample], RequestSample]) -> Callable[[RequestSample], RequestSample]:
    return lambda row: change(row) if row.step == 1 else row


def test_a_sound_run_is_valid_without_a_warning() -> None:
    step = last_step(RUN)
    assert step.valid
    assert step.reasons == ()
    assert step.warnings == ()


def test_tokens_merged_by_our_own_late_reads_say_that_the_generator_is_saturated() -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, bunched=2, bunched_late=2)))
    assert reasons(run) == ["generator.saturated"]


def test_one_late_token_in_a_hundred_is_accepted() -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, bunched=1, bunched_late=1) if row.index == 0 else row))
    assert reasons(run) == []


def test_tokens_merged_by_the_server_only_warn() -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, bunched=5)))
    assert (reasons(run), warnings(run)) == ([], ["stream.bunched"])


def test_reads_that_lag_only_warn_because_stamps_stay_true() -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, read_lag_ns=90_000_000)))
    assert (reasons(run), warnings(run)) == ([], ["generator.read_lag"])


def telemetry(run: SyntheticRun, *rows: tuple[str, str, float, float]) -> SyntheticRun:
    """Each row: source, series, value at the start and at the end of the last step's hold."""
    step = run.run.visits[0].steps[-1]
    ends = ((step.hold_start_ns, 2), (step.hold_end_ns - 1, 3))
    made = [(time, row[0], row[1], "", float(row[position])) for time, position in ends for row in rows]
    return replace(run, telemetry_rows=tuple(made))


def simulated(lateness_s: float) -> list[tuple[str, str, float, float]]:
    """100 steps of 20 ms in the hold, late by `lateness_s` each."""
    return [
        ("tp4/engine0", "engine.sim.step_lateness.sum", 5.0, 5.0 + 100 * lateness_s),
        ("tp4/engine0", "engine.sim.step_lateness.count", 50, 150),
        ("tp4/engine0", "engine.sim.step.sum", 1.0, 3.0),
        ("tp4/engine0", "engine.sim.step.count", 50, 150),
    ]


@pytest.mark.parametrize(("lateness_s", "expected"), [(0.0019, []), (0.0021, ["simserver.late"])])
def test_a_simulated_engine_may_be_late_by_a_tenth_of_its_steps(lateness_s: float, expected: list[str]) -> None:
    assert reasons(telemetry(RUN, *simulated(lateness_s))) == expected  # a tenth of 20 ms is 2 ms


def test_another_topologys_late_engine_is_of_no_concern() -> None:
    other = [(source.replace("tp4", "tp2"), *rest) for source, *rest in simulated(0.01)]
    assert reasons(telemetry(RUN, *other)) == []


def test_a_busy_worker_only_warns() -> None:
    run = telemetry(RUN, ("generator/worker0", "generator.cpu_percent", 95, 97))
    assert (reasons(run), warnings(run)) == ([], ["generator.cpu"])


def at_last_step(run: SyntheticRun, **changes: object) -> SyntheticRun:
    def change(_: VisitRecord, step: StepRecord) -> StepRecord:
        return replace(step, **changes) if step.step == 1 else step

    return run.with_steps(change)


def test_a_lost_worker_is_named() -> None:
    run = at_last_step(RUN, workers_lost=("worker1",))
    assert reasons(run) == ["workers.lost"]
    assert "worker1" in last_step(run).reasons[0].message


def test_a_step_whose_tail_was_cut_lacks_its_slowest_requests() -> None:
    assert reasons(at_last_step(RUN, tail_complete=False)) == ["tail.incomplete"]


def test_a_lost_record_shows_against_the_workers_books() -> None:
    lost = next(position for position, row in enumerate(RUN.rows) if row.step == 1)
    run = replace(RUN, rows=RUN.rows[:lost] + RUN.rows[lost + 1 :])
    assert "counts.workers" in reasons(run)


def test_a_request_that_never_ended_shows_in_the_books_themselves() -> None:
    counters = RUN.run.visits[0].steps[-1].counters
    run = at_last_step(RUN, counters=replace(counters, started=counters.started + 1))
    assert reasons(run) == ["counts.workers", "counts.open"]


def cut_off() -> SyntheticRun:
    """Killed after its last step: books as they stood at each step's end, with three requests of each tail under way;
    those of the first step's tail were delivered with the second."""

    def change(_: VisitRecord, step: StepRecord) -> StepRecord:
        books = step.counters
        if step.step == 0:
            return replace(step, counters=replace(books, ok=books.ok - 3))
        return replace(step, counters=replace(books, started=books.started + 3))

    return RUN.with_visits(lambda visit: replace(visit, drained=False, server_after=None)).with_steps(change)


def test_a_run_that_was_killed_keeps_its_steps_although_requests_were_under_way() -> None:
    steps = cut_off().summary().topologies["tp4"].steps
    assert [step.valid for step in steps] == [True, True]
    assert [[finding.id for finding in step.warnings] for step in steps] == [
        ["counts.open", "samples.p99"],
        ["counts.open"],
    ]
    assert "3 were under way" in steps[1].warnings[0].message


def test_a_run_that_was_killed_must_still_have_every_row_that_was_counted() -> None:
    run = cut_off()
    lost = next(position for position, row in enumerate(run.rows) if row.step == 1)
    assert reasons(replace(run, rows=run.rows[:lost] + run.rows[lost + 1 :])) == ["counts.workers"]


def test_more_ended_than_started_is_never_right() -> None:
    books = RUN.run.visits[0].steps[-1].counters
    assert "counts.open" in reasons(at_last_step(RUN, counters=replace(books, started=books.started - 1)))


@pytest.mark.parametrize(
    ("field", "more", "expected"),
    [("requests_finished", 1, ["counts.server"]), ("output_tokens", 500, ["counts.tokens"]), ("output_tokens", 1, [])],
)
def test_the_servers_own_totals_must_agree(field: str, more: float, expected: list[str]) -> None:
    def change(visit: VisitRecord) -> VisitRecord:
        assert visit.server_after is not None
        return replace(
            visit, server_after=replace(visit.server_after, **{field: getattr(visit.server_after, field) + more})
        )

    assert reasons(RUN.with_visits(change)) == expected


def test_a_silent_server_is_not_held_against_the_step() -> None:
    run = RUN.with_visits(lambda visit: replace(visit, server_after=None))
    assert reasons(run) == []
    told = {finding.id: finding.message for finding in run.summary().findings}
    assert told["counts.unchecked"].startswith("tp4: the server's own counters are not known")


def test_a_server_that_tells_its_counts_leaves_nothing_unchecked() -> None:
    assert "counts.unchecked" not in [finding.id for finding in RUN.summary().findings]


@pytest.mark.parametrize(("tokens", "expected"), [(140, []), (142, ["input.off"]), (100, ["input.off"])])
def test_prompts_of_another_length_than_planned_warn_and_say_by_how_much(tokens: int, expected: list[str]) -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, input_tokens=tokens)))
    assert warnings(run) == expected  # 140 / 128 is 9 % more, 142 / 128 11 %, 100 / 128 22 % less
    if tokens == 100:
        assert "off by 22% of the tokens asked (median; on average 100 instead of 128)" in (
            last_step(run).warnings[0].message
        )


def test_a_killed_request_may_or_may_not_have_been_finished_by_the_server() -> None:
    run = RUN.with_rows(
        lambda row: replace(row, outcome=Outcome.KILLED) if row.step == 1 and row.phase is Phase.WARMUP else row,
    )
    assert reasons(run.recounted()) == []


def test_fewer_than_five_successes_are_too_few() -> None:
    kept = [row for row in RUN.rows if row.step == 1 and row.phase is Phase.HOLD][:4]
    rows = tuple(row for row in RUN.rows if row.step == 0 or row.phase is Phase.WARMUP or row in kept)
    run = replace(RUN, rows=rows).with_visits(lambda visit: replace(visit, server_after=None)).recounted()
    assert reasons(run) == ["samples.few"]


def test_errors_above_one_in_a_hundred_invalidate_and_are_named() -> None:
    run = RUN.with_rows(in_last_step(lambda row: failed(row) if row.index % 10 == 3 else row)).recounted()
    run = run.with_visits(lambda visit: replace(visit, server_after=None))
    assert reasons(run) == ["requests.failed"]
    assert "http_error" in last_step(run).reasons[0].message


def test_the_slo_may_allow_more_errors() -> None:
    run = RUN.with_rows(in_last_step(lambda row: failed(row) if row.index % 10 == 3 else row)).recounted()
    run = run.with_visits(lambda visit: replace(visit, server_after=None))
    plan = plan_of(SERVERS, load={"steps": [4, 16], "hold_s": 6}, slo={"error_rate_max": 0.5})
    assert reasons(replace(run, plan=plan)) == []


def test_a_clock_step_invalidates() -> None:
    assert reasons(RUN.with_rows(in_last_step(lambda row: replace(row, clock_step=True)))) == ["clock.step"]


def test_read_times_instead_of_kernel_stamps_warn() -> None:
    run = RUN.with_rows(in_last_step(lambda row: replace(row, clock=StampClock.READ)))
    assert (reasons(run), warnings(run)) == ([], ["clock.read"])


def test_responses_shorter_than_asked_invalidate_only_where_the_server_should_ignore_eos() -> None:
    run = RUN.with_rows(
        in_last_step(lambda row: replace(row, output_tokens_asked=round(row.output_tokens_asked * 1.1)))
    )
    assert reasons(run) == ["tokens.off"]
    workload = run.plan.workload.model_copy(update={"ignore_eos": False})
    assert reasons(replace(run, plan=run.plan.model_copy(update={"workload": workload}))) == []


def test_a_hold_shorter_than_a_request_warns() -> None:
    slow = simulate({"tp4": replace(TP4, itl_ms=lambda load: 100)}, plan_of(SERVERS, load={"steps": [16], "hold_s": 2}))
    assert "hold.short" in warnings(slow)


def test_few_requests_warn_of_the_p99() -> None:
    few = simulate(SERVERS, plan_of(SERVERS, load={"steps": [4], "hold_s": 2}))
    assert warnings(few) == ["samples.p99"]


def test_pooled_repeats_may_have_enough_for_a_p99_where_one_has_not() -> None:
    changes = {"steps": [4], "hold_s": 6, "repeats": 2}
    assert warnings(simulate(SERVERS, plan_of(SERVERS, load={**changes, "repeats": 1}))) == ["samples.p99"]
    assert warnings(simulate(SERVERS, plan_of(SERVERS, load=changes))) == []


def test_an_invalid_repeat_is_left_out_shown_and_told() -> None:
    run = REPEATED.with_steps(
        lambda visit, step: replace(step, workers_lost=("worker0",)) if visit.repeat == 1 and step.step == 1 else step,
    )
    step = last_step(run)
    assert step.valid
    assert [visit.valid for visit in step.visits] == [True, False]
    assert [one.visit.repeat for one in step.pooled] == [0]
    assert "repeat.excluded" in [finding.id for finding in step.warnings]


def test_a_step_without_a_valid_repeat_is_invalid_with_each_reason_once() -> None:
    run = REPEATED.with_steps(lambda _, step: replace(step, workers_lost=("worker0",)) if step.step == 1 else step)
    assert not last_step(run).valid
    assert reasons(run) == ["workers.lost"]
    assert not last_step(run).reasons[0].message.startswith("repeat")


def test_a_reason_that_only_some_repeats_have_names_them() -> None:
    run = REPEATED.with_steps(
        lambda visit, step: replace(step, tail_complete=False, workers_lost=("w",) if visit.repeat == 1 else ()),
    )
    messages = {finding.id: finding.message for finding in last_step(run).reasons}
    assert messages["workers.lost"].startswith("repeat 1: ")
    assert not messages["tail.incomplete"].startswith("repeat")


def test_fixed_lengths_in_a_closed_loop_are_a_finding_of_the_run() -> None:
    workload = {"model": "m", "input_tokens": 128, "output_tokens": 32}
    run = simulate(SERVERS, plan_of(SERVERS, workload=workload, load={"steps": [4], "hold_s": 4}))
    assert "workload.fixed_lengths" in [finding.id for finding in run.summary().findings]
    assert "workload.fixed_lengths" not in [finding.id for finding in RUN.summary().findings]


def test_a_worker_that_is_lost_late_leaves_the_earlier_steps_valid() -> None:
    """The server finished more than came back: the lost worker's records explain it."""

    def more_finished(visit: VisitRecord) -> VisitRecord:
        assert visit.server_after is not None
        assert visit.server_after.requests_finished is not None
        more = replace(visit.server_after, requests_finished=visit.server_after.requests_finished + 7)
        return replace(visit, server_after=more)

    run = at_last_step(RUN, workers_lost=("worker0",)).with_visits(more_finished)
    first, last = run.summary().topologies["tp4"].steps
    assert first.valid
    assert [finding.id for finding in last.reasons] == ["workers.lost"]


def test_a_visit_that_began_without_some_of_its_workers_only_warns() -> None:
    for wanted, told in ((None, []), (2, []), (3, ["workers.missing"])):
        run = RUN.with_visits(lambda visit, wanted=wanted: replace(visit, workers_wanted=wanted))  # type: ignore[misc]
        assert (reasons(run), warnings(run)) == ([], told)
    assert last_step(run).warnings[0].message.startswith("the visit began with 2 of 3 workers: ")


def test_other_workers_than_in_the_first_step_only_warn() -> None:
    run = at_last_step(RUN, workers=("worker0", "worker1", "worker2"))
    assert (reasons(run), warnings(run)) == ([], ["workers.changed"])
    assert "worker2" in last_step(run).warnings[0].message


def balanced(run: SyntheticRun, *rows: RequestSample) -> SyntheticRun:
    """These rows alone, with every count in agreement."""
    changed = replace(run, rows=rows).recounted()
    return changed.with_visits(lambda visit: replace(visit, server_after=None))


def test_a_worker_that_sends_nothing_leaves_users_idle() -> None:
    run = balanced(RUN, *(row for row in RUN.rows if row.step == 0 or row.worker == "worker0"))
    assert reasons(run) == ["generator.idle_users"]
    assert "16 users" in last_step(run).reasons[0].message


def test_records_that_are_lost_without_a_trace_are_missing_under_way() -> None:
    run = balanced(RUN, *(row for row in RUN.rows if row.step == 0 or row.index % 10 != 3))
    assert reasons(run) == ["generator.idle_users"]


def test_users_who_pause_for_a_millisecond_between_short_requests_are_not_idle() -> None:
    quick = {"tp4": replace(TP4, ttft_ms=lambda load: 1.0, itl_ms=lambda load: 0.1)}  # 4 ms, and 1 ms between
    assert reasons(simulate(quick, plan_of(quick, load={"steps": [4], "hold_s": 2}))) == []


def test_times_that_end_too_early_break_littles_law() -> None:
    run = RUN.with_rows(
        in_last_step(lambda row: replace(row, last_token_ns=(row.dispatch_ns + (row.last_token_ns or 0)) // 2)),
    )
    assert reasons(run) == ["little.law"]
    assert "-5" in last_step(run).reasons[0].message  # about half


@pytest.mark.parametrize(("waiting", "expected"), [(4.0, []), (8.0, ["little.server"])])
def test_engines_that_hold_more_requests_than_we_sent_have_another_client(waiting: float, expected: list[str]) -> None:
    # 16 under way allow 1 + 17.6 + 0.75 × 4 = 21.6.
    run = telemetry(
        RUN,
        ("tp4/engine0", "engine.requests.running", 16, 16),
        ("tp4/engine0", "engine.requests.waiting", waiting, waiting),
    )
    assert reasons(run) == expected


def cached(tokens: int, **workload: object) -> SyntheticRun:
    """All prompts have 128 tokens, `tokens` of them from the cache."""
    run = RUN.with_rows(in_last_step(lambda row: replace(row, cached_input_tokens=tokens)))
    plan = run.plan.model_copy(update={"workload": run.plan.workload.model_copy(update=workload)})
    return replace(run, plan=plan)


@pytest.mark.parametrize(("tokens", "expected"), [(0, []), (48, []), (54, []), (55, ["cache.contaminated"])])
def test_a_cache_that_answers_for_the_gpu_invalidates(tokens: int, expected: list[str]) -> None:
    assert reasons(cached(tokens)) == expected  # 48 tokens for a template, and 5 % of 128 are 6.4


def test_the_prefix_that_the_plan_shares_may_be_cached() -> None:
    prefix = {"share": 0.5, "tokens": 64}
    assert reasons(cached(86, prefix=Prefix(**prefix))) == []  # 48 + half of 64, and 6.4
    assert reasons(cached(87, prefix=Prefix(**prefix))) == ["cache.contaminated"]


def test_without_a_salt_a_cache_only_warns_and_the_run_says_so() -> None:
    run = cached(100, salt=False)
    assert (reasons(run), warnings(run)) == ([], ["cache.contaminated"])
    assert "workload.unsalted" in [finding.id for finding in run.summary().findings]


def engine_hits(share: float, preemptions: float = 0) -> SyntheticRun:
    return telemetry(
        RUN,
        ("tp4/engine0", "engine.prefix.queries", 1000, 2000),
        ("tp4/engine0", "engine.prefix.hits", 500, 500 + 1000 * share),
        ("tp4/engine0", "engine.preemptions", 0, preemptions),
    )


def test_the_engines_own_hit_counters_tell_too() -> None:
    assert reasons(engine_hits(0.42)) == []  # 48 of 128 tokens are 38 %, and 5 %
    assert reasons(engine_hits(0.44)) == ["cache.contaminated"]


def test_requests_that_resume_find_their_own_tokens_in_the_cache() -> None:
    run = engine_hits(0.9, preemptions=3)
    assert (reasons(run), warnings(run)) == ([], ["cache.contaminated"])


def test_more_tokens_than_the_memory_can_feed_are_not_believed() -> None:
    # 32.0e9 parameters in BF16 are read in 4.8 ms by four GPUs of 3,350 GB/s: a user gets 209 tokens/s at the most.
    fast = {"tp4": replace(TP4, ttft_ms=lambda load: 3.0, itl_ms=lambda load: 3.0)}
    plan = plan_of(fast, load={"steps": [4], "hold_s": 4})
    assert (reasons(simulate(fast, plan)), warnings(simulate(fast, plan))) == (
        [],
        ["ceiling.throughput", "ceiling.stream"],
    )
    known = plan.topologies[0].model_copy(update={"engines": (Engine(tp=4, flags={"dtype": "bfloat16"}),)})
    run = simulate(fast, plan.model_copy(update={"topologies": (known,)}))
    assert reasons(run) == ["ceiling.throughput"]


def test_a_queue_that_builds_up_over_the_hold_is_no_steady_state() -> None:
    """TTFT doubles from the beginning of the hold to its end."""
    step = RUN.run.visits[0].steps[-1]

    def later(row: RequestSample) -> RequestSample:
        into_hold = (row.dispatch_ns - step.hold_start_ns) / (step.hold_end_ns - step.hold_start_ns)
        wait_ns = int(80_000_000 * max(0.0, into_hold))  # 80 ms at the beginning
        return replace(row, first_token_ns=None if row.first_token_ns is None else row.first_token_ns + wait_ns)

    run = RUN.with_rows(in_last_step(later))
    assert reasons(run) == ["load.not_stationary"]
    assert "TTFT +" in last_step(run).reasons[0].message


def test_a_warm_up_that_never_settled_warns_where_the_hold_is_steady() -> None:
    run = at_last_step(RUN, stationary=False)
    assert (reasons(run), warnings(run)) == ([], ["warmup.not_stationary"])
