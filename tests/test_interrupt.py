"""A signal ends what runs, wherever in the code it comes."""

import signal
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadstair.errors import Interrupted
from loadstair.interrupt import STOP_SIGNALS, interruptible


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """As nohup, under which these tests may run, has SIGHUP ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Thing:
    pass


def wait() -> None:
    """Longer than any signal takes, in pieces that a signal may come between."""
    for _ in range(1000):
        time.sleep(0.01)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_an_exception(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name), interruptible():
        signal.raise_signal(number)


def test_a_signal_that_was_ignored_before_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(signal.SIGHUP)


def test_where_exceptions_are_ignored_it_comes_once_more() -> None:
    def interrupted_in_a_callback() -> None:
        thing = Thing()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        assert reference() is None
        reached.append("behind the callback")  # Python has ignored what was raised in it
        wait()

    reached: list[str] = []
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        interrupted_in_a_callback()
    assert reached


def test_a_second_signal_while_the_first_takes_everything_down_is_ignored() -> None:
    @contextmanager
    def taken_down() -> Iterator[None]:
        try:
            yield
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("taken down")

    done: list[str] = []
    with pytest.raises(Interrupted, match="SIGINT"), interruptible(), taken_down():
        signal.raise_signal(signal.SIGINT)
    assert done


def test_other_exceptions_that_python_ignores_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with interruptible():
        thing = Thing()
        reference = weakref.ref(thing, lambda _: 1 / 0)
        del thing
        assert reference() is None
    assert [type(one) for one in told] == [ZeroDivisionError]


def test_afterwards_the_handlers_are_what_they_were() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS], sys.unraisablehook
    with interruptible():
        pass
    assert ([signal.getsignal(number) for number in STOP_SIGNALS], sys.unraisablehook) == before
