"""LoRA adapters: at most so many in one step, and the others wait though there is room."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.simserver.lora import LoraLimit, lora_step_s
from tests.simserver.laws import request, run, scheduler, step

ONE = LoraLimit(max_loras=1, step_s=0.002)


def test_another_adapter_waits_though_there_is_room_and_those_behind_it_do_not():
    engine = scheduler(loras=ONE)
    for name, adapter in (("a", "sql"), ("b", "chat"), ("c", "sql"), ("d", None)):
        engine.add(request(name, 10, 2, lora=adapter))
    assert [one.request.id for one, _ in step(engine).scheduled] == ["a", "c", "d"]
    step(engine)  # the three end
    assert [one.request.id for one, _ in step(engine).scheduled] == ["b"]


def test_an_adapter_is_told_as_running_or_waiting_or_both():
    engine = scheduler(loras=ONE, max_num_seqs=2)
    for name, adapter in (("a", "sql"), ("b", "chat"), ("c", "sql"), ("d", "sql"), ("e", None)):
        engine.add(request(name, 10, 2, lora=adapter))
    step(engine)
    assert engine.running_adapters == ("sql",)  # a and c
    assert engine.waiting_adapters == ("chat", "sql")
    run(engine)
    assert engine.running_adapters == engine.waiting_adapters == ()


def test_those_passed_over_keep_their_order():
    engine = scheduler(loras=ONE, max_num_seqs=1)
    for number, adapter in enumerate(("sql", "chat", "code", "chat")):
        engine.add(request(str(number), 10, 1, lora=adapter))
    assert [step(engine).scheduled[0][0].request.id for _ in range(4)] == ["0", "1", "2", "3"]


def test_a_step_with_an_adapter_lasts_longer_by_a_fixed_time():
    durations = []
    for adapter in (None, "sql"):
        engine = scheduler(loras=ONE)
        engine.add(request("a", 10, 1, lora=adapter))
        durations.append(step(engine).duration_ns)
    assert durations[1] - durations[0] == pytest.approx(2_000_000, abs=1)
    assert lora_step_s(64) == pytest.approx(64 * 8 * 4e-6)  # layers x kernels x their start


def test_an_engine_without_adapters_refuses_requests_for_one():
    with pytest.raises(ValueError, match="wants adapter sql, the engine has none"):
        scheduler().add(request("a", 10, 1, lora="sql"))


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 100), st.integers(1, 30), st.sampled_from([None, "x", "y", "z"])),
        min_size=1,
        max_size=12,
    ),
    max_loras=st.integers(1, 3),
    budget=st.integers(8, 200),
    policy=st.sampled_from(["fcfs", "priority"]),
)
def test_no_step_has_more_adapters_than_allowed_and_every_request_ends(requests, max_loras, budget, policy):
    engine = scheduler(
        kv_tokens=16 * 10,
        max_num_batched_tokens=budget,
        loras=LoraLimit(max_loras=max_loras, step_s=0.0),
        policy=policy,
    )
    for number, (prompt_tokens, max_tokens, adapter) in enumerate(requests):
        engine.add(request(str(number), prompt_tokens, max_tokens, lora=adapter))
    given = dict.fromkeys(map(str, range(len(requests))), 0)
    while (taken := engine.next_step(0)) is not None:
        assert len({one.request.lora for one, _ in taken.scheduled} - {None}) <= max_loras
        for token in engine.finish_step(taken):
            given[token.sequence.request.id] += token.tokens
    assert given == {str(number): max_tokens for number, (_, max_tokens, _) in enumerate(requests)}
