"""Who goes first, who gives way, and when the engine takes no more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.simserver.scheduler import Overloaded, Scheduler, Sequence
from loadstair.simserver.waiting import PriorityQueue
from tests.simserver.laws import request, run, scheduler, step


def first_steps(engine: Scheduler, added: list[Sequence]) -> list[str]:
    """Ids in the order in which they were admitted, of an engine with one place."""
    order: list[str] = []
    while (taken := engine.next_step(len(order))) is not None:
        order += [one.request.id for one, _ in taken.scheduled if one.generated == 0]
        engine.finish_step(taken)
    assert len(order) == len(added)
    return order


def test_the_lower_priority_number_goes_first_and_then_the_earlier():
    engine = scheduler(max_num_seqs=1, policy="priority")
    wanted = [("late", 1, 5), ("urgent", -1, 9), ("early", 1, 3), ("usual", 0, 4)]
    added = [
        engine.add(request(name, 10, 1, priority=priority, arrival_ns=arrival)) for name, priority, arrival in wanted
    ]
    assert first_steps(engine, added) == ["urgent", "usual", "early", "late"]


def test_first_come_first_served_knows_no_priority():
    engine = scheduler(max_num_seqs=1)
    added = [engine.add(request(str(number), 10, 1, priority=-number)) for number in range(4)]
    assert first_steps(engine, added) == ["0", "1", "2", "3"]


def test_the_least_urgent_gives_way_though_it_came_first():
    engine = scheduler(kv_tokens=64, policy="priority")  # 4 blocks
    engine.add(request("patient", 30, 10, priority=1))
    urgent = engine.add(request("urgent", 30, 10, priority=0))
    run(engine)
    assert engine.counters.preemptions == 1
    assert urgent.preemptions == 0


def test_a_preempted_sequence_gives_its_tokens_of_the_step_back_to_the_budget():
    engine = scheduler(kv_tokens=64, policy="priority", max_num_batched_tokens=64)
    engine.add(request("patient", 31, 10, priority=1))
    engine.add(request("urgent", 32, 10, priority=0))
    step(engine)
    # patient's 32nd token has a place; urgent's 33rd has not, so patient, already in the step, is taken out again.
    taken = engine.next_step(0)
    assert [(one.request.id, tokens) for one, tokens in taken.scheduled] == [("urgent", 1)]
    assert (engine.running, engine.waiting) == (1, 1)


def test_aborting_a_waiting_request_keeps_the_order_of_the_others():
    engine = scheduler(max_num_seqs=1, policy="priority")
    added = [engine.add(request(str(number), 10, 1, priority=9 - number)) for number in range(6)]
    assert engine.abort("4")
    assert first_steps(engine, [one for one in added if not one.gone]) == ["5", "3", "2", "1", "0"]


@given(ranks=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_a_priority_queue_gives_out_in_order_of_priority_arrival_and_number(ranks):
    queue = PriorityQueue()
    for number, (priority, arrival_ns) in enumerate(ranks):
        asked = request(str(number), 1, 1, priority=priority, arrival_ns=arrival_ns)
        queue.add(Sequence(request=asked, number=number, known=1, output_tokens=1))
    given_out = [queue.pop() for _ in range(len(queue))]
    order = [(one.request.priority, one.request.arrival_ns, one.number) for one in given_out]
    assert order == sorted((priority, arrival, number) for number, (priority, arrival) in enumerate(ranks))


def test_more_requests_than_may_be_under_way_are_refused_and_counted():
    engine = scheduler(max_num_seqs=1, max_num_queued_reqs=2)
    engine.add(request("a", 10, 1))
    engine.add(request("b", 10, 1))
    with pytest.raises(Overloaded, match="2 requests are under way, max_num_queued_reqs is 2"):
        engine.add(request("c", 10, 1))
    assert engine.counters.admission_rejections == 1
    step(engine)  # a ends
    engine.add(request("c", 10, 1))
    assert run(engine) == {"b": 1, "c": 1}


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 40), st.integers(-2, 2)), min_size=1, max_size=12),
    budget=st.integers(8, 200),
    seqs=st.integers(1, 8),
)
def test_under_priority_every_request_ends_with_its_tokens(requests, budget, seqs):
    engine = scheduler(kv_tokens=16 * 12, max_num_batched_tokens=budget, max_num_seqs=seqs, policy="priority")
    for number, (prompt_tokens, max_tokens, priority) in enumerate(requests):
        engine.add(request(str(number), prompt_tokens, max_tokens, priority=priority))
    assert run(engine) == {str(number): max_tokens for number, (_, max_tokens, _) in enumerate(requests)}


def test_one_that_gives_way_to_itself_does_not_stop_the_others():
    engine = scheduler(kv_tokens=64, policy="priority")  # 4 blocks
    engine.add(request("patient", 32, 10, priority=1))
    engine.add(request("urgent", 30, 10, priority=0))
    step(engine)
    # patient comes first in the step and has no place for its 33rd token; it is the least urgent of the two.
    assert [one.request.id for one, _ in engine.next_step(0).scheduled] == ["urgent"]
