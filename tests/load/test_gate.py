import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.load.gate import Gate, shares
from loadstair.load.tag import Tag
from loadstair.samples.record import Phase

TAG = Tag(step=0, load=1.0, phase=Phase.WARMUP)


def begin(gate: Gate, *, active: int, step: int = 0, rank: int = 0, workers: int = 1, growth_s: float = 0.0) -> None:
    tag = Tag(step=step, load=1.0, phase=Phase.WARMUP)
    gate.begin_step(tag, rank=rank, workers=workers, active=active, growth_s=growth_s)


def test_a_new_user_waits_until_a_step_wants_it() -> None:
    gate = Gate(seed=1, tag=TAG)
    passed: list[int] = []

    def user() -> None:
        ordinal = gate.enroll()
        gate.pass_through(ordinal)
        passed.append(ordinal)

    users = [gevent.spawn(user) for _ in range(3)]
    gevent.sleep(0.01)
    assert passed == []
    begin(gate, active=2)
    gevent.joinall(users[:2], raise_error=True)
    assert passed == [0, 1]
    begin(gate, active=3)
    gevent.joinall(users, raise_error=True)
    assert passed == [0, 1, 2]


def test_new_users_begin_in_a_seeded_order_over_the_growth_time_and_old_ones_do_not_wait() -> None:
    def order(seed: int) -> list[int]:
        gate = Gate(seed=seed, tag=TAG)
        passed: list[int] = []
        users = [gevent.spawn(lambda n=n: (gate.pass_through(n), passed.append(n))) for n in range(8)]
        gevent.sleep(0.001)
        begin(gate, active=8, growth_s=0.2)
        gate.pass_through(0)
        passed.append(-1)
        gevent.joinall(users, raise_error=True)
        return passed

    first = order(1)
    assert first[0] == -1
    assert sorted(first[1:]) == list(range(8))
    assert first[1:] != list(range(8))
    assert order(1) == first
    assert order(2) != first


def test_a_user_parked_during_its_growth_time_does_not_pass() -> None:
    gate = Gate(seed=1, tag=TAG)
    user = gevent.spawn(gate.pass_through, 0)
    gevent.sleep(0.001)
    begin(gate, active=1, growth_s=60.0)
    gevent.sleep(0.001)
    gate.park_all()
    gevent.sleep(0.01)
    assert not user.ready()
    user.kill()


def test_an_open_gate_lets_everybody_through() -> None:
    gate = Gate(seed=1, tag=TAG, active=None)
    for _ in range(3):
        gate.pass_through(gate.enroll())
    assert gate.active == 3


def test_indexes_of_a_step_are_shared_out_without_overlap_and_begin_anew_with_each_step() -> None:
    gates = [Gate(seed=1, tag=TAG) for _ in range(3)]
    for step in range(2):
        for rank, gate in enumerate(gates):
            begin(gate, active=1, step=step, rank=rank, workers=3)
        assert sorted(gate.take_index() for gate in gates for _ in range(4)) == list(range(12))


@given(
    spawned=st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 20), min_size=1), users=st.integers(0, 80)
)
def test_shares_are_even_as_far_as_the_spawned_users_allow(spawned: dict[str, int], users: int) -> None:
    active = shares(users, spawned)
    assert sum(active.values()) == min(users, sum(spawned.values()))
    assert all(active[name] <= spawned[name] for name in spawned)
    able = [active[name] for name in spawned if active[name] < spawned[name]]
    assert all(count >= max(active.values()) - 1 for count in able)


@pytest.mark.parametrize("spawned", [{"a": 3, "b": 2}, {"a": 2, "b": 3}])
def test_with_all_users_wanted_every_worker_runs_what_it_has(spawned: dict[str, int]) -> None:
    assert shares(5, spawned) == spawned


def test_with_a_number_of_requests_each_user_passes_so_often_and_parks() -> None:
    gate = Gate(seed=1, tag=TAG)
    passed: list[int] = []

    def user() -> None:
        ordinal = gate.enroll()
        while True:
            gate.pass_through(ordinal)
            passed.append(ordinal)

    users = [gevent.spawn(user) for _ in range(3)]
    gevent.sleep(0.001)
    gate.begin_step(TAG, rank=0, workers=1, active=2, growth_s=0.0, requests_per_user=3)
    gevent.sleep(0.05)
    assert sorted(passed) == [0, 0, 0, 1, 1, 1]
    gate.begin_step(TAG, rank=0, workers=1, active=3, growth_s=0.0, requests_per_user=1)
    gevent.sleep(0.05)
    assert sorted(passed[6:]) == [0, 1, 2]
    gevent.killall(users)
