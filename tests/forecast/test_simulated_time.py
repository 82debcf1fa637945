from functools import partial

from loadstair.clock import Deadline
from loadstair.forecast.simulated_time import SimulatedTime


def test_what_is_due_happens_in_order_while_somebody_waits() -> None:
    time = SimulatedTime(0)
    happened: list[tuple[str, int]] = []

    def note(name: str) -> None:
        happened.append((name, time.now_ns()))

    for name, at_ns in (("late", 3_000_000_000), ("first", 500_000_000), ("second", 500_000_000)):
        time.at(at_ns, partial(note, name))
    time.sleep_s(1.0)
    assert happened == [("first", 500_000_000), ("second", 500_000_000)]
    assert time.now_ns() == 1_000_000_000


def test_a_deadline_can_lie_on_simulated_time() -> None:
    time = SimulatedTime(7)
    deadline = Deadline.after_s(2.0, time.monotonic_ns)
    assert (deadline.left_s(), deadline.passed()) == (2.0, False)
    time.sleep_s(2.0)
    assert (deadline.left_s(), deadline.passed()) == (0.0, True)
