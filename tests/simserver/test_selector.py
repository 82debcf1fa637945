"""The selector that waits to the microsecond still does what any selector does."""

import selectors
import socket

import pytest

from loadstair.simserver.selector import MicrosecondEpollSelector


@pytest.fixture
def pair():
    reader, writer = socket.socketpair()
    with reader, writer, MicrosecondEpollSelector() as selector:
        selector.register(reader, selectors.EVENT_READ, "reader")
        yield selector, writer


@pytest.mark.parametrize("timeout_s", [0.0, 0.0001, -1.0])
def test_nothing_is_ready_when_the_time_is_over(pair, timeout_s):
    selector, _ = pair
    assert selector.select(timeout_s) == []


@pytest.mark.parametrize("timeout_s", [None, 0.0, 30.0])
def test_what_is_ready_comes_at_once(pair, timeout_s):
    selector, writer = pair
    writer.send(b"x")
    ((key, events),) = selector.select(timeout_s)
    assert (key.data, events) == ("reader", selectors.EVENT_READ)
