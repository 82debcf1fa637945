"""Prefill and decode on engines of their own."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.simserver.closedloop import run_closed_loop
from loadstair.simserver.disaggregation import KvLink, PrefillDecode
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.timed import DrivenService, Service, TimedEngine
from loadstair.units import ns_from_s
from tests.simserver.laws import request, scheduler

LINK = KvLink(kv_bytes_per_token=256 * 1024, bytes_per_s=25e9, start_s=0.001)


def pools(*, prefill: int = 1, decode: int = 1, link: KvLink = LINK, **settings: int) -> PrefillDecode:
    return PrefillDecode(
        tuple(scheduler(**settings) for _ in range(prefill)), tuple(scheduler(**settings) for _ in range(decode)), link
    )


def token_times(service: Service) -> dict[str, list[int]]:
    """To the end, by request id."""
    times: dict[str, list[int]] = {}
    while (now_ns := service.next_ns) is not None:
        for token in service.advance(now_ns):
            times.setdefault(token.sequence.request.id, []).extend([now_ns] * token.tokens)
    return times


def test_a_transfer_takes_its_start_and_its_bytes_over_the_bandwidth():
    assert LINK.transfer_ns(1000) == pytest.approx(1_000_000 + 1000 * 256 * 1024 / 25e9 * 1e9, abs=1)


def test_the_first_token_comes_after_prefill_transfer_and_one_decode_step():
    asked = request("a", 1000, 3)
    both = pools()
    both.add(asked, 0)
    first_ns, second_ns, _ = token_times(both)["a"]
    alone = scheduler()
    alone.add(asked)
    prefill_ns = alone.next_step(0).duration_ns
    # The decode steps of one row, with one token of context between them, take the same time to the microsecond.
    assert first_ns - prefill_ns - LINK.transfer_ns(1000) == pytest.approx(second_ns - first_ns, abs=1_000)


def test_prompts_do_not_hold_up_those_who_decode():
    def longest_gap_ns(service: Service) -> int:
        service.add(request("a", 100, 40), 0)
        service.add(request("b", 8000, 2), 0)
        times = token_times(service)["a"]
        return max(after - before for before, after in itertools.pairwise(times))

    decode_only = pools()
    decode_only.add(request("a", 100, 40), 0)
    times = token_times(decode_only)["a"]
    assert longest_gap_ns(pools()) < 2 * (times[-1] - times[-2])
    chunked = TimedEngine(scheduler(max_num_batched_tokens=2048))
    assert longest_gap_ns(chunked) > 3 * (times[-1] - times[-2])


def test_one_link_sends_one_prompt_after_another():
    slow = KvLink(kv_bytes_per_token=1, bytes_per_s=100)  # 100 tokens a second
    both = pools(link=slow)
    both.add(request("a", 100, 1), 0)
    both.add(request("b", 100, 1), 0)
    times = token_times(both)
    assert times["b"][0] - times["a"][0] == pytest.approx(1e9, abs=1e6)


def test_an_abort_ends_a_request_wherever_it_is():
    for steps in range(5):
        both = pools()
        both.add(request("a", 500, 3), 0)
        for _ in range(steps):
            if both.next_ns is not None:
                both.advance(both.next_ns)
        aborted = both.abort("a")
        assert aborted
        assert token_times(both) == {}
        assert not both.abort("a")


def test_decode_engines_that_refuse_requests_are_a_mistake():
    with pytest.raises(ValueError, match="is for the prefill engines"):
        PrefillDecode((scheduler(),), (scheduler(max_num_queued_reqs=3),), LINK)
    with pytest.raises(ValueError, match="at least one engine each"):
        PrefillDecode((), (scheduler(),), LINK)


def test_a_prompt_that_no_decode_engine_can_hold_is_refused_at_once():
    both = PrefillDecode((scheduler(),), (scheduler(kv_tokens=64),), LINK)
    with pytest.raises(ValueError, match="needs 7 KV blocks, the engine has 4"):
        both.add(request("a", 100, 3), 0)
    assert both.next_ns is None


def test_driven_by_a_simulation_it_happens_once_at_each_of_its_times():
    events: list[tuple[int, Callable[[], None]]] = []
    times: list[int] = []
    driven = DrivenService(
        pools(prefill=2), lambda at_ns, action: events.append((at_ns, action)), lambda _, now_ns: times.append(now_ns)
    )
    driven.add(request("a", 8000, 20), 0)
    driven.add(request("b", 100, 20), 0)  # its prefill ends before that of the one which came before it
    while events:
        event = min(events, key=lambda one: one[0])
        events.remove(event)
        event[1]()
    assert len(times) > 20
    assert len(set(times)) == len(times)


def test_it_stands_in_a_closed_loop_as_an_engine_does():
    def loop(engine: Scheduler | Service) -> tuple[int, float]:
        result = run_closed_loop(
            (engine,),
            users=6,
            lengths=lambda number: (200, 20 + number % 7),
            window_start_ns=ns_from_s(1),
            window_end_ns=ns_from_s(8),
            user_gap_ns=ns_from_s(0.05),
        )
        return len(result.traces), result.output_tokens_per_s()

    assert loop(pools(prefill=2)) == loop(pools(prefill=2))
    assert loop(pools())[1] > 0.8 * loop(scheduler())[1]


@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 30)), min_size=1, max_size=12),
    prefill=st.integers(1, 3),
    decode=st.integers(1, 3),
)
def test_every_request_gets_its_tokens_in_order_whichever_engines_it_passes(requests, prefill, decode):
    both = pools(prefill=prefill, decode=decode, kv_tokens=16 * 10, max_num_batched_tokens=64)
    for number, (prompt_tokens, max_tokens) in enumerate(requests):
        both.add(request(str(number), prompt_tokens, max_tokens), 0)
    times = token_times(both)
    assert {name: len(at) for name, at in times.items()} == {
        str(number): max_tokens for number, (_, max_tokens) in enumerate(requests)
    }
    assert all(at == sorted(at) for at in times.values())
