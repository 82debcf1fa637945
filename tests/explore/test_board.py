from collections.abc import Iterator
from typing import Any

import pytest

from loadstair.explore.board import TICKS_MAX, Board
from loadstair.explore.numbers import Limits
from loadstair.explore.rows import header
from loadstair.explore.spool import Spool
from loadstair.explore.tally import Tally
from loadstair.samples.record import RequestSample
from loadstair.units import NS_PER_S
from tests.samples.records import record

LIMITS = Limits(ttft_ms=150, tpot_ms=None, e2e_ms=None)


class Clock:
    """Both clocks of a board, in whole seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ns(self) -> int:
        return round((1_000 + self.seconds) * NS_PER_S)

    def monotonic_ns(self) -> int:
        return round(self.seconds * NS_PER_S)


class Teller:
    """A worker, whose clock shows another time than the master's."""

    def __init__(self, board: Board, clock: Clock, name: str, *, test: str = "t", epoch: int = 0) -> None:
        self.board, self.clock, self.name, self.test, self.epoch = board, clock, name, test, epoch
        self.tally = Tally()
        self.number = 0

    def add(self, *records: RequestSample) -> None:
        for each in records:
            self.tally.add(each, LIMITS)

    def report(self, *, in_flight: int = 0, rows: int = 0, final: bool = False, number: int | None = None) -> None:
        self.number += 1
        report: dict[str, Any] = {
            "test": self.test,
            "epoch": self.epoch,
            "number": number or self.number,
            "as_of_ns": self.clock.monotonic_ns() + 777 * NS_PER_S,
            "tally": self.tally.packed(),
            "in_flight": in_flight,
            "rows": rows,
            "final": final,
        }
        self.board.hear_report(self.name, report)

    def rows(self, before: int, *lines: str) -> None:
        csv = "".join(lines)
        message = {"test": self.test, "epoch": self.epoch, "before": before, "count": len(lines), "csv": csv}
        self.board.hear_rows(self.name, message)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Iterator[Board]:
    board = Board(Spool(), users=lambda: 3, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
    board.begin("t", LIMITS)
    yield board
    board.close()


def test_before_the_first_test_there_is_nothing(clock: Clock) -> None:
    board = Board(Spool(), users=lambda: 0)
    assert (board.test_started_s, board.test_running, board.ticks(0.0)) == (None, False, [])
    assert (board.total().ok, board.total().ttft_ms.p50, board.recent().output_tokens_per_s) == (0, None, None)
    board.close()


def test_the_total_is_the_sum_of_what_the_workers_said_last(board: Board, clock: Clock) -> None:
    a, b = Teller(board, clock, "a"), Teller(board, clock, "b")
    a.report()
    b.report()
    clock.seconds = 4
    a.add(record(100, 110), record(200, 210))
    b.add(record(100, 110))
    a.report()
    b.report()
    total = board.total()
    assert (total.ok, total.ttft_ms.n, total.itl_ms.n) == (3, 3, 3)
    assert (total.requests_per_s, total.output_tokens_per_s) == (3 / 4, 6 / 4)
    assert total.goodput_rps == 2 / 4  # one of three has a TTFT above 150 ms


def test_a_lost_message_costs_nothing_and_a_late_one_does_no_harm(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    worker.add(record(100))
    worker.number = 7  # six were lost
    worker.report()
    worker.tally = Tally()
    worker.report(number=3)
    assert board.total().ok == 1


def test_a_lost_worker_stays_in_the_totals_and_leaves_the_recent_numbers(board: Board, clock: Clock) -> None:
    lost, other = Teller(board, clock, "lost"), Teller(board, clock, "other")
    for second in range(12):
        clock.seconds = second
        if second <= 3:
            lost.add(record(100, 110))
            lost.report(in_flight=5)
        other.add(record(100, 110))
        other.report(in_flight=1)
    assert board.total().ok == 4 + 12
    assert board.recent().requests_per_s == 1.0  # the other's alone
    board.tick()
    assert board.ticks(0.0)[-1].in_flight == 1


def test_the_recent_numbers_are_those_of_the_last_ten_seconds(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    for second in range(31):
        clock.seconds = second
        worker.add(record(100 if second <= 20 else 300, 400))
        worker.report()
    recent = board.recent()
    assert recent.span_s == 10
    assert recent.ok == 10
    assert recent.ttft_ms.p50 == pytest.approx(300, rel=0.01)
    assert recent.requests_per_s == 1.0
    assert recent.goodput_rps == 0.0


def test_rates_do_not_depend_on_when_messages_arrive(board: Board, clock: Clock) -> None:
    """Reports that were held up and come together are told apart by the worker's own clock."""
    worker = Teller(board, clock, "a")
    worker.report()
    for second in range(1, 6):
        clock.seconds = second
        worker.add(*[record(100, 110)] * 2)
        worker.report()
    assert board.recent().requests_per_s == 2.0


def test_what_belongs_to_another_test_or_epoch_is_not_counted(board: Board, clock: Clock) -> None:
    for stranger in (Teller(board, clock, "a", test="older"), Teller(board, clock, "a", epoch=1)):
        stranger.add(record(100))
        stranger.report(rows=1)
        stranger.rows(0, "x\n")
    assert board.total().ok == 0
    assert "".join(board.records_csv()) == header()


def test_a_reset_begins_anew(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    worker.add(record(100))
    worker.rows(0, "one\n")
    worker.report(rows=1)
    board.tick()
    clock.seconds = 5
    board.reset()
    worker.report(rows=1)  # was under way when the reset came
    assert (board.epoch, board.total().ok, board.ticks(0.0)) == (1, 0, [])
    assert "".join(board.records_csv()) == header()
    assert board.test_started_s == 1005.0
    assert board.test_running


def test_rows_that_were_sent_twice_are_kept_once_and_missing_ones_are_counted(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    worker.rows(0, "one\n", "two\n")
    worker.rows(0, "one\n", "two\n")
    worker.rows(4, "five\n")
    worker.report(rows=5)
    assert "".join(board.records_csv()) == header() + "one\ntwo\nfive\n"
    assert board.records_missing == 2  # of five, the third and the fourth


def test_rows_sent_again_with_newer_ones_behind_lose_none(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    worker.rows(0, "one\n", "two\n")
    worker.rows(0, "one\n", "two\n", "three\n", "four\n", "five\n")
    worker.rows(3, "four\n", "five\n")
    worker.report(rows=5)
    assert "".join(board.records_csv()) == header() + "one\ntwo\nthree\nfour\nfive\n"
    assert board.records_missing == 0


def test_ticks_are_asked_for_from_a_time_on(board: Board, clock: Clock) -> None:
    for second in range(5):
        clock.seconds = second
        board.tick()
    assert [tick.time_s for tick in board.ticks(1002.0)] == [1003.0, 1004.0]
    assert board.ticks(0.0)[0].users == 3


@pytest.mark.slow
def test_of_a_long_test_the_older_ticks_are_thinned(board: Board, clock: Clock) -> None:
    for second in range(3 * TICKS_MAX):
        clock.seconds = second
        board.tick()
    ticks = board.ticks(0.0)
    assert len(ticks) <= TICKS_MAX
    assert ticks[0].time_s == 1000.0
    assert ticks[-1].time_s - ticks[-2].time_s == 1.0
    assert ticks[1].time_s - ticks[0].time_s > 1.0
    assert ticks == sorted(ticks, key=lambda tick: tick.time_s)


def test_after_the_end_the_totals_stand_and_nothing_is_recent(board: Board, clock: Clock) -> None:
    worker = Teller(board, clock, "a")
    worker.add(record(100))
    clock.seconds = 2
    worker.report(final=True)
    assert board.is_final("a")
    board.end()
    clock.seconds = 60
    board.tick()
    assert not board.test_running
    assert board.recent().ok == 0
    assert board.total().requests_per_s == 0.5  # 1 in the 2 s until the last report
    assert len(board.ticks(0.0)) == 1  # the one of the end
