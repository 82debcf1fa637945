"""The simulated load does what Locust's processes do for the climb."""

from collections import Counter

import pytest

from loadstair.clock import Deadline
from loadstair.forecast.delays import SERVED, Delays
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import ArrivalKind
from loadstair.plan.workload import request_spec
from loadstair.samples.record import Outcome, Phase
from tests.forecast.plans import MODEL, TP4, TWO_TP2, load_of, plan_of

POISSON = Arrivals(kind=ArrivalKind.POISSON)


def test_the_requests_are_those_of_the_plan_in_their_order() -> None:
    plan = plan_of()
    load = load_of(plan)
    load.begin_step(step=3, load=4, users=4, growth_s=0.5)
    load.clock.sleep_s(5)
    load.stop()
    rows = sorted(load.take_records().to_pylist(), key=lambda row: row["index"])
    assert [row["index"] for row in rows] == list(range(len(rows)))
    specs = [request_spec(plan.workload, seed=5, repeat=0, step=3, index=row["index"]) for row in rows]
    assert [(row["input_tokens_asked"], row["output_tokens_asked"]) for row in rows] == [
        (spec.input_tokens, spec.output_tokens) for spec in specs
    ]


def test_every_user_has_one_request_under_way_and_surplus_ones_stop_after_theirs() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=8, users=8, growth_s=0.2)
    load.clock.sleep_s(1)
    assert load.status().in_flight == 8
    load.begin_step(step=1, load=2, users=2, growth_s=0.2)
    load.clock.sleep_s(3)
    assert load.status().in_flight == 2


def test_counters_and_records_match_when_a_visit_was_stopped() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=8, users=8, growth_s=0.2)
    load.clock.sleep_s(2)
    books = load.stop()[0]
    outcomes = load.take_records()["outcome"].to_pylist()
    assert books.killed == outcomes.count(Outcome.KILLED) == 8
    assert books.ok == outcomes.count(Outcome.OK) == books.started - 8


def test_a_drain_lets_what_was_begun_end() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=8, users=8, growth_s=0.2)
    load.clock.sleep_s(1)
    assert load.drain(Deadline.after_s(60, load.clock.monotonic_ns), wait=load.clock.sleep_s)
    assert load.status().in_flight == 0
    assert set(load.take_records()["outcome"].to_pylist()) == {Outcome.OK}


def test_each_response_has_as_many_stamps_as_tokens_and_they_rise() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=4, users=4, growth_s=0.2)
    load.clock.sleep_s(2)
    for row in load.take_records().to_pylist():
        assert len(row["arrivals"]) == row["output_tokens"] == row["output_tokens_asked"]
        assert row["arrivals"] == sorted(row["arrivals"])
        assert row["sent_ns"] < row["first_token_ns"] == row["arrivals"][0]
        assert row["end_ns"] == row["last_token_ns"] == row["arrivals"][-1]


def test_delays_lengthen_a_lone_users_first_token_by_themselves() -> None:
    def ttft_ns(delays: Delays) -> int:
        load = load_of(plan_of(), delays=delays)
        load.begin_step(step=0, load=1, users=1, growth_s=0.0)
        load.clock.sleep_s(1)
        row = load.take_records().to_pylist()[0]
        return row["first_token_ns"] - row["sent_ns"]

    none = Delays(to_engine_ns=0, to_client_ns=0, turnaround_ns=0, balancer_ns=0)
    some = Delays(to_engine_ns=300, to_client_ns=40, turnaround_ns=9, balancer_ns=7)
    assert ttft_ns(some) - ttft_ns(none) == 340  # one engine: no balancer stands before it


def test_a_users_next_request_follows_after_the_turnaround() -> None:
    delays = Delays(to_engine_ns=0, to_client_ns=0, turnaround_ns=123, balancer_ns=0)
    load = load_of(plan_of(), delays=delays)
    load.begin_step(step=0, load=1, users=1, growth_s=0.0)
    load.clock.sleep_s(3)
    first, second, *_ = load.take_records().to_pylist()
    assert second["sent_ns"] - first["end_ns"] == 123


def test_round_robin_gives_both_engines_every_other_request() -> None:
    load = load_of(plan_of(TWO_TP2))
    load.begin_step(step=0, load=4, users=4, growth_s=0.2)
    load.clock.sleep_s(3)
    load.stop()
    rows = sorted(load.take_records().to_pylist(), key=lambda row: row["sent_ns"])
    assert {row["upstream"] for row in rows[0::2]} == {"engine0"}
    assert {row["upstream"] for row in rows[1::2]} == {"engine1"}


def test_an_open_loop_sends_what_is_due_whether_or_not_earlier_requests_have_ended() -> None:
    load = load_of(plan_of(load={"mode": "open", "steps": [20]}), arrivals=POISSON)
    load.begin_step(step=0, load=20, users=20, growth_s=0.0)
    load.clock.sleep_s(10)
    books = load.flush()[0]
    assert books.scheduled == books.started == pytest.approx(200, abs=45)  # three standard deviations of Poisson
    rows = load.take_records().to_pylist()
    assert all(row["due_ns"] == row["sent_ns"] for row in rows)


def test_beyond_the_in_flight_limit_requests_wait_and_keep_their_due_time() -> None:
    plan = plan_of(load={"mode": "open", "steps": [20], "max_in_flight": 2})
    load = load_of(plan, arrivals=POISSON)
    load.begin_step(step=0, load=20, users=20, growth_s=0.0)
    load.clock.sleep_s(5)
    assert load.flush()[0].held_back > 0
    rows = load.take_records().to_pylist()
    assert any(row["due_ns"] < row["sent_ns"] for row in rows)


def test_a_request_that_takes_too_long_is_a_timeout_and_frees_its_place() -> None:
    load = load_of(plan_of(load={"request_timeout_s": 0.1}))
    load.begin_step(step=0, load=2, users=2, growth_s=0.0)
    load.clock.sleep_s(1)
    load.stop()
    rows = load.take_records().to_pylist()
    late = [row for row in rows if row["outcome"] == Outcome.TIMEOUT]
    assert late
    assert all(row["end_ns"] - row["sent_ns"] == 100_000_000 for row in late)
    load.clock.sleep_s(1)
    assert load.gauges.take_rows()[-7][2:] == ("engine.requests.running", "", 0.0)


def test_a_prompt_longer_than_the_context_is_refused_as_the_served_engine_does() -> None:
    plan = plan_of({**TP4, "engines": [{"tp": 4, "flags": {"max_model_len": 64}}]})
    load = load_of(plan, delays=Delays(to_engine_ns=0, to_client_ns=0, turnaround_ns=1_000_000, balancer_ns=0))
    load.begin_step(step=0, load=1, users=1, growth_s=0.0)
    load.clock.sleep_s(0.01)
    row = load.take_records().to_pylist()[0]
    assert (row["outcome"], row["status"]) == (Outcome.HTTP_ERROR, 400)
    assert "the engine's context is 64" in row["error"]


def test_the_phase_is_that_of_the_dispatch() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=4, users=4, growth_s=0.2)
    load.clock.sleep_s(1)
    since_ns = load.set_phase(Phase.HOLD)
    load.clock.sleep_s(1)
    assert load.status().in_flight_hold > 0
    load.stop()
    for row in load.take_records().to_pylist():
        assert row["phase"] == (Phase.HOLD if row["dispatch_ns"] >= since_ns else Phase.WARMUP)


def test_the_gauges_are_read_once_a_second_and_agree_with_the_books() -> None:
    load = load_of(plan_of())
    load.begin_step(step=0, load=8, users=8, growth_s=0.1)
    load.clock.sleep_s(3)
    rows = load.gauges.take_rows()
    under_way: Counter[int] = Counter()
    for time_ns, _, series, _, value in rows:
        if series in ("engine.requests.running", "engine.requests.waiting"):
            under_way[time_ns] += round(value)
    assert under_way == {0: 0, 500_000_000: 8, 1_500_000_000: 8, 2_500_000_000: 8}
    assert load.drain(Deadline.after_s(60, load.clock.monotonic_ns), wait=load.clock.sleep_s)
    counters, tokens = load.gauges.server_counters(), load.take_records()["output_tokens"].to_pylist()
    assert (counters.requests_finished, counters.output_tokens) == (len(tokens), sum(tokens))


def test_a_shared_prefix_is_computed_once_where_the_engine_has_a_prefix_cache() -> None:
    workload = {
        "model": MODEL,
        "input_tokens": 2048,
        "output_tokens": 8,
        "prefix": {"share": 1.0, "tokens": 1920},
    }
    ttft_ns = []
    for flags in ({}, {"enable_prefix_caching": True}):
        load = load_of(plan_of({**TP4, "engines": [{"tp": 4, "flags": flags}]}, workload=workload))
        load.begin_step(step=0, load=1, users=1, growth_s=0)
        load.clock.sleep_s(2)
        load.stop()
        rows = load.take_records().to_pylist()[1:-1]
        ttft_ns.append(sum(row["first_token_ns"] - row["sent_ns"] for row in rows) / len(rows))
    assert ttft_ns[1] < ttft_ns[0] / 3


def test_drafts_that_are_accepted_leave_together_and_count_as_tokens() -> None:
    flags = {"num_speculative_tokens": 3, "acceptance_rate": 1.0}
    load = load_of(plan_of({**TP4, "engines": [{"tp": 4, "flags": flags}]}))
    load.begin_step(step=0, load=2, users=2, growth_s=0)
    load.clock.sleep_s(4)
    load.drain(Deadline.after_s(60, load.clock.monotonic_ns), wait=load.clock.sleep_s)
    rows = load.take_records().to_pylist()
    assert all(len(row["arrivals"]) == row["output_tokens_asked"] for row in rows)
    assert all(len(set(row["arrivals"])) <= row["output_tokens_asked"] / 3 for row in rows if row["output_tokens"] > 8)
    assert load.status().tokens == sum(row["output_tokens_asked"] for row in rows)


def test_an_engine_that_takes_no_more_refuses_and_the_user_goes_on() -> None:
    load = load_of(plan_of({**TP4, "engines": [{"tp": 4, "flags": {"max_num_queued_reqs": 2}}]}), delays=SERVED)
    load.begin_step(step=0, load=4, users=4, growth_s=0)
    load.clock.sleep_s(2)
    load.stop()
    answers = load.take_records().select(["outcome", "status"]).to_pylist()
    assert {(answer["outcome"], answer["status"]) for answer in answers} >= {
        (Outcome.OK, 200),
        (Outcome.HTTP_ERROR, 503),
    }
