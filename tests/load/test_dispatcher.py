"""What is due is sent, whatever the server does, and nothing twice."""

from collections import Counter

import gevent
from gevent.event import Event

from loadstair.clock import now_ns
from loadstair.load.dispatcher import Dispatcher
from loadstair.load.tag import Tag
from loadstair.plan.arrivals import Arrivals, Due
from loadstair.plan.model import ArrivalKind
from loadstair.samples.record import Phase

RATE = 500.0


class Sent:
    """A dispatcher whose requests last until `answer` is set."""

    def __init__(self) -> None:
        self.answer = Event()
        self.begun: list[tuple[Due, Tag, int, int]] = []
        self.killed = 0
        self.due: Counter[int] = Counter()
        self.held_back: Counter[int] = Counter()
        self.dispatcher = Dispatcher(
            Arrivals(kind=ArrivalKind.CONSTANT),
            seed=1,
            repeat=0,
            send=self._send,
            on_due=lambda step: self.due.update([step]),
            on_held_back=lambda step: self.held_back.update([step]),
        )
        self.user = gevent.spawn(self.dispatcher.run)

    def _send(self, due: Due, tag: Tag, due_ns: int) -> None:
        self.begun.append((due, tag, due_ns, now_ns()))
        try:
            self.answer.wait()
        except gevent.GreenletExit:
            self.killed += 1
            raise

    def begin(self, step: int = 0, *, rank: int = 0, workers: int = 1, limit: int | None = None) -> int:
        start_ns = now_ns()
        tag = Tag(step=step, load=RATE, phase=Phase.WARMUP)
        self.dispatcher.begin_step(tag, rank=rank, workers=workers, start_ns=start_ns, in_flight_max=limit)
        return start_ns

    def until_due(self, n: int) -> None:
        while self.due.total() < n:
            gevent.sleep(0.002)

    def end(self) -> None:
        self.dispatcher.kill(1.0)
        self.user.kill()


def test_requests_are_sent_when_due_though_none_has_been_answered() -> None:
    sent = Sent()
    start_ns = sent.begin(rank=1, workers=3)
    sent.until_due(10)
    sent.dispatcher.end_schedule()
    gevent.sleep(0.002)
    assert len(sent.begun) == sent.due[0] >= 10
    assert [due.place for due, *_ in sent.begun] == [1 + 3 * number for number in range(len(sent.begun))]
    assert all(due_ns == start_ns + due.offset_ns <= begun_ns for due, _, due_ns, begun_ns in sent.begun)
    sent.end()
    assert sent.killed == len(sent.begun)


def test_a_request_bears_the_step_and_phase_in_which_it_came_due() -> None:
    sent = Sent()
    sent.begin(0)
    sent.until_due(5)
    sent.dispatcher.set_phase(Phase.HOLD)
    held_from = sent.due[0]
    sent.until_due(held_from + 5)
    sent.begin(1)
    first_step = sent.due[0]
    sent.until_due(first_step + 5)
    sent.dispatcher.end_schedule()
    gevent.sleep(0.002)
    tags = [(tag.step, tag.phase) for _, tag, *_ in sent.begun]
    second = sent.due[1]
    assert tags == [
        *[(0, Phase.WARMUP)] * held_from,
        *[(0, Phase.HOLD)] * (first_step - held_from),
        *[(1, Phase.WARMUP)] * second,
    ]
    sent.end()


def test_a_limit_makes_requests_wait_and_hides_none() -> None:
    sent = Sent()
    sent.begin(limit=3)
    sent.until_due(10)
    assert len(sent.begun) == 3
    sent.dispatcher.end_schedule()
    assert sent.dispatcher.waiting == sent.due[0] - 3 == sent.held_back[0]
    sent.answer.set()
    gevent.sleep(0.05)
    assert len(sent.begun) == sent.due[0]
    assert sent.dispatcher.waiting == 0
    assert [due.place for due, *_ in sent.begun] == list(range(sent.due[0]))
    sent.end()


def test_killed_requests_have_all_begun_and_those_held_back_never_do() -> None:
    sent = Sent()
    sent.begin(limit=4)
    sent.until_due(9)
    sent.end()
    assert (len(sent.begun), sent.killed, sent.dispatcher.waiting) == (4, 4, 0)


def test_a_second_user_sends_nothing_until_the_first_is_gone() -> None:
    sent = Sent()
    second = gevent.spawn(sent.dispatcher.run)
    sent.begin()
    sent.until_due(5)
    sent.dispatcher.end_schedule()
    gevent.sleep(0.002)
    places = [due.place for due, *_ in sent.begun]
    assert places == list(range(sent.due[0]))
    second.kill()
    sent.end()
