"""Speculative decoding: several tokens of one step leave together, and none is made up or lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.serving.steptime import StepShape
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.speculation import Speculation, uniform
from tests.simserver.laws import STEP_MODEL, request, run, scheduler, step


def drafting(acceptance: float, tokens: int = 3, *, cost: float = 0.0, seed: int = 0, **settings: int) -> Scheduler:
    return scheduler(speculation=Speculation(tokens=tokens, acceptance=acceptance, cost=cost, seed=seed), **settings)


def gifts(engine: Scheduler) -> list[int]:
    """Tokens of each step, of an engine with one request."""
    given = []
    while (taken := engine.next_step(0)) is not None:
        given += [token.tokens for token in engine.finish_step(taken)]
    return given


def test_when_all_drafts_are_accepted_a_step_gives_them_and_one_more():
    engine = drafting(1.0)
    engine.add(request("a", 100, 10))
    assert gifts(engine) == [1, 4, 4, 1]  # the prefill drafts nothing yet; the last step ends at the limit
    assert engine.counters.accepted_by_position == [3, 3, 3]  # three steps of three drafts, those past the end too


def test_when_none_is_accepted_every_step_gives_one_token():
    engine = drafting(0.0)
    engine.add(request("a", 100, 5))
    assert gifts(engine) == [1, 1, 1, 1, 1]
    assert (engine.counters.drafts, engine.counters.draft_tokens, engine.counters.accepted_tokens) == (4, 12, 0)


def test_a_step_verifies_all_drafts_and_reads_the_context_once():
    engine = drafting(0.0)
    engine.add(request("a", 100, 5))
    step(engine)
    # 1 + 3 rows of 100 + 4 tokens, and logits for each row
    assert step(engine).shape == StepShape(decode_rows=4, decode_context_tokens=104, sampled_rows=4)


def test_drafting_costs_its_share_of_a_decode_step_for_each_draft():
    durations = []
    for cost in (0.0, 0.1):
        engine = drafting(0.0, cost=cost)
        engine.add(request("a", 100, 5))
        step(engine)
        durations.append(step(engine).duration_ns)
    one_row = StepShape(decode_rows=1, decode_context_tokens=104, sampled_rows=1)
    assert durations[1] - durations[0] == pytest.approx(3 * 0.1 * STEP_MODEL.gpu_s(one_row) * 1e9, abs=2)


def test_a_short_budget_cuts_the_drafts():
    engine = drafting(1.0, max_num_batched_tokens=3)
    engine.add(request("a", 3, 6))
    assert gifts(engine) == [1, 3, 2]  # 1 + 2 drafts; two tokens are left


def test_tokens_per_step_follow_the_acceptance():
    engine = drafting(0.7, seed=4)
    for number in range(40):
        engine.add(request(str(number), 20, 200))
    run(engine)
    counters = engine.counters
    per_step = 1 + counters.accepted_tokens / counters.drafts
    assert per_step == pytest.approx((1 - 0.7**4) / (1 - 0.7), rel=0.03)  # 1 + a + a² + a³


def test_the_same_seed_accepts_the_same_drafts_in_any_batch():
    def lonely_and_together(seed: int) -> tuple[list[int], list[int]]:
        alone = drafting(0.5, seed=seed)
        alone.add(request("a", 30, 60))
        both = drafting(0.5, seed=seed)
        both.add(request("a", 30, 60))
        both.add(request("b", 50, 60))
        given = []
        while (taken := both.next_step(0)) is not None:
            given += [token.tokens for token in both.finish_step(taken) if token.sequence.request.id == "a"]
        return gifts(alone), given

    alone, together = lonely_and_together(1)
    assert alone == together
    assert lonely_and_together(2)[0] != alone


def test_draws_are_spread_evenly():
    draws = [uniform(7, sequence, position) for sequence in range(100) for position in range(100)]
    assert all(0 <= draw < 1 for draw in draws)
    tenths = [sum(1 for draw in draws if tenth <= draw * 10 < tenth + 1) for tenth in range(10)]
    assert all(count == pytest.approx(1000, abs=150) for count in tenths)  # 5 standard deviations: 5 x 30


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 40)), min_size=1, max_size=10),
    drafts=st.integers(1, 6),
    acceptance=st.floats(0, 1),
    budget=st.integers(8, 200),
    prefix_caching=st.booleans(),
)
def test_every_request_gets_exactly_its_tokens_however_many_come_at_once(
    requests, drafts, acceptance, budget, prefix_caching
):
    engine = drafting(
        acceptance, drafts, kv_tokens=16 * 10, max_num_batched_tokens=budget, prefix_caching=prefix_caching
    )
    for number, (prompt_tokens, max_tokens) in enumerate(requests):
        engine.add(request(str(number), prompt_tokens, max_tokens))
    assert run(engine) == {str(number): max_tokens for number, (_, max_tokens) in enumerate(requests)}
    assert engine.counters.generation_tokens == sum(max_tokens for _, max_tokens in requests)
    assert engine.counters.accepted_tokens <= engine.counters.draft_tokens
    by_position = engine.counters.accepted_by_position
    assert sum(by_position) == engine.counters.accepted_tokens
    assert by_position == sorted(by_position, reverse=True)  # none is accepted whose predecessor was not
