"""Continuous batching: who runs in which step, and that no block is ever lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.serving.steptime import StepShape
from loadstair.simserver.scheduler import Scheduler
from tests.simserver.laws import request, scheduler


def run(engine: Scheduler, steps: int = 10_000) -> list[list[tuple[str, str | None]]]:
    """For each step the tokens it gave, as (request, finish)."""
    given: list[list[tuple[str, str | None]]] = []
    now_ns = 0
    while len(given) < steps and (step := engine.next_step(now_ns)) is not None:
        now_ns = step.end_ns
        given.append([(token.sequence.request.id, token.finish) for token in engine.finish_step(step)])
    return given


def test_a_prompt_gives_its_first_token_at_the_end_of_its_prefill():
    engine = scheduler()
    engine.add(request("a", 100, 3))
    assert run(engine) == [[("a", None)], [("a", None)], [("a", "length")]]


def test_an_answer_may_stop_before_its_limit():
    engine = scheduler()
    engine.add(request("a", 100, 50, stop_after=2))
    assert run(engine)[-1] == [("a", "stop")]


def test_an_answer_that_would_stop_later_ends_at_its_limit():
    engine = scheduler()
    engine.add(request("a", 100, 2, stop_after=3))
    assert run(engine)[-1] == [("a", "length")]


def test_decodes_and_a_prompt_share_a_step():
    engine = scheduler()
    engine.add(request("a", 100, 5))
    first = engine.next_step(0)
    engine.finish_step(first)
    engine.add(request("b", 40, 5))
    second = engine.next_step(first.end_ns)
    # a: 100 prompt tokens and the one it made; b: its whole prompt
    assert second.shape == StepShape(prefill=((40, 0),), decode_rows=1, decode_context_tokens=101, sampled_rows=2)


def test_a_long_prompt_is_split_by_what_the_decodes_leave_of_the_budget():
    engine = scheduler(max_num_batched_tokens=64)
    engine.add(request("a", 10, 9))
    engine.finish_step(engine.next_step(0))
    engine.add(request("b", 100, 9))
    shapes = []
    for _ in range(2):
        step = engine.next_step(0)
        shapes.append(step.shape.prefill)
        engine.finish_step(step)
    assert shapes == [((63, 0),), ((37, 63),)]  # 64 - 1 decode; 100 - 63


def test_waiting_requests_are_admitted_in_order_up_to_the_sequence_limit():
    engine = scheduler(max_num_seqs=2)
    for name in "abc":
        engine.add(request(name, 10, 2))
    assert run(engine) == [
        [("a", None), ("b", None)],
        [("a", "length"), ("b", "length")],
        [("c", None)],
        [("c", "length")],
    ]


def test_a_prompt_waits_until_there_are_blocks_for_it():
    engine = scheduler(kv_tokens=64)  # 4 blocks
    engine.add(request("a", 40, 3))  # 3 blocks
    engine.add(request("b", 20, 2))  # 2 blocks
    engine.finish_step(engine.next_step(0))
    assert (engine.running, engine.waiting, engine.blocks_used) == (1, 1, 3)
    run(engine)
    assert engine.counters.preemptions == 0


def test_the_newest_gives_way_when_blocks_run_out_and_computes_again():
    engine = scheduler(kv_tokens=64)  # 4 blocks
    engine.add(request("a", 30, 10))  # 2 blocks, a third after 3 tokens
    engine.add(request("b", 30, 10))
    tokens = [token for step in run(engine) for token in step]
    assert engine.counters.preemptions == 1
    assert [token for token in tokens if token[1]] == [("a", "length"), ("b", "length")]
    assert len(tokens) == 20  # 2 x 10: what b had made before is not made twice
    assert engine.counters.prompt_tokens == 60  # 2 x 30: recomputing does not count


def test_recomputing_costs_a_prefill_of_prompt_and_output():
    engine = scheduler(kv_tokens=64)
    engine.add(request("a", 30, 10))
    engine.add(request("b", 30, 10))
    chunks = []
    while (step := engine.next_step(0)) is not None:
        chunks += step.shape.prefill
        engine.finish_step(step)
    assert chunks == [(30, 0), (30, 0), (33, 0)]  # b had made 3 tokens when a needed a third block


def test_an_abort_frees_the_blocks_at_once_in_the_middle_of_a_step_too():
    engine = scheduler()
    engine.add(request("a", 100, 5))
    step = engine.next_step(0)
    assert engine.abort("a")
    assert engine.blocks_used == 0
    assert engine.finish_step(step) == []
    assert engine.next_step(step.end_ns) is None


def test_aborting_an_unknown_request_says_so():
    assert not scheduler().abort("nobody")


def test_a_request_that_could_never_end_is_refused():
    engine = scheduler(kv_tokens=64)
    with pytest.raises(ValueError, match="needs 5 KV blocks, the engine has 4"):
        engine.add(request("a", 60, 10))  # 69 tokens are kept: ceil(69 / 16)
    with pytest.raises(ValueError, match="at least one token"):
        engine.add(request("a", 0, 10))


def test_a_faster_engine_plans_shorter_steps():
    durations = []
    for speed in (1.0, 4.0):
        engine = scheduler(speed=speed)
        engine.add(request("a", 100, 1))
        durations.append(engine.next_step(0).duration_ns)
    assert durations[0] == pytest.approx(4 * durations[1], abs=4)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 40)), min_size=1, max_size=12),
    aborts=st.dictionaries(st.integers(0, 60), st.integers(0, 11), max_size=5),
    budget=st.integers(8, 200),
    seqs=st.integers(1, 8),
)
def test_every_request_gets_exactly_its_tokens_and_every_block_comes_back(requests, aborts, budget, seqs):
    engine = scheduler(kv_tokens=16 * 12, max_num_batched_tokens=budget, max_num_seqs=seqs)
    for number, (prompt_tokens, max_tokens) in enumerate(requests):
        engine.add(request(str(number), prompt_tokens, max_tokens))
    tokens = dict.fromkeys(range(len(requests)), 0)
    aborted = set()
    for count in range(20_000):
        step = engine.next_step(0)
        if step is None:
            break
        assert step.shape.tokens <= budget
        assert len(step.scheduled) <= seqs
        assert 0 <= engine.blocks_used <= 12
        if count in aborts and engine.abort(str(aborts[count])):
            aborted.add(aborts[count])
        for token in engine.finish_step(step):
            tokens[int(token.sequence.request.id)] += 1
    assert (engine.running, engine.waiting, engine.blocks_used) == (0, 0, 0)
    for number, (_, max_tokens) in enumerate(requests):
        if number not in aborted:
            assert tokens[number] == max_tokens
