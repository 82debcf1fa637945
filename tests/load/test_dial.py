"""The dialer by itself: names, several addresses, and one limit for everything."""

import socket
from collections.abc import Iterator

import gevent
import pytest

from loadstair.load.dial import Address, Dialer, DialError, DialTimeoutError, LookedUp, Origin
from loadstair.load.exchange import Exchange


@pytest.fixture
def port() -> Iterator[int]:
    """Where connections are taken."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


def address(port: int) -> Address:
    return socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", port)


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        number: int = closed.getsockname()[1]
        return number


def test_the_next_address_of_a_name_is_tried_when_one_cannot_be_reached(port: int) -> None:
    def look_up(_: Origin) -> LookedUp:
        family = 9999  # that no system has
        return [(family, *address(port)[1:]), address(closed_port()), address(port)], None

    dialer = Dialer(limit_s=5, tls=None, look_up=look_up)
    dialer.dial(Origin("http", "two.test", port), Exchange("a")).close()
    dialer.close()


def test_connections_take_turns_at_the_addresses_of_a_name() -> None:
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        found: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 0, (host, port)) for host in hosts]
        dialer = Dialer(limit_s=5, tls=None, look_up=lambda _: (found, None))
        reached = []
        for number in range(6):
            dialer.dial(Origin("http", "many.test", port), Exchange(str(number))).close()
            connection, _ = server.accept()
            reached.append(connection.getsockname()[0])
            connection.close()
        dialer.close()
    assert sorted(reached) == sorted(hosts * 2)


def test_requests_that_begin_together_share_one_look_up_and_later_ones_wait_for_none(port: int) -> None:
    asked = []

    def look_up(origin: Origin) -> LookedUp:
        asked.append(origin)
        gevent.sleep(0.01)
        return [address(port)], None

    dialer = Dialer(limit_s=5, tls=None, look_up=look_up)
    origin = Origin("http", "name.test", port)
    together = [Exchange(str(number)) for number in range(3)]
    for connected in gevent.joinall([gevent.spawn(dialer.dial, origin, exchange) for exchange in together]):
        connected.value.close()
    later = Exchange("later")
    dialer.dial(origin, later).close()
    dialer.close()
    assert asked == [origin]
    assert all(exchange.dns_ns for exchange in together)
    assert later.dns_ns is None
    assert later.connect_ns


def test_a_resolver_that_keeps_silent_is_waited_for_no_longer_than_a_connection() -> None:
    def look_up(_: Origin) -> LookedUp:
        gevent.sleep(60)
        return [], None

    dialer = Dialer(limit_s=0.02, tls=None, look_up=look_up)
    with pytest.raises(DialTimeoutError, match=r"^slow.test:80: the name was not resolved within 0.02 s$"):
        dialer.dial(Origin("http", "slow.test", 80), Exchange("a"))
    dialer.close()


def test_a_name_that_could_not_be_resolved_is_asked_for_again(port: int) -> None:
    answers: list[LookedUp] = [([], "Temporary failure in name resolution"), ([address(port)], None)]
    dialer = Dialer(limit_s=5, tls=None, look_up=lambda _: answers.pop(0))
    origin = Origin("http", "name.test", port)
    with pytest.raises(DialError, match=r"^name.test: the name cannot be resolved: Temporary failure in name"):
        dialer.dial(origin, Exchange("a"))
    dialer.dial(origin, Exchange("b")).close()
    dialer.close()


def test_what_is_no_name_is_told_as_that() -> None:
    dialer = Dialer(limit_s=5, tls=None)
    with pytest.raises(DialError, match="the name cannot be resolved: it is no name"):
        dialer.dial(Origin("http", "x" * 70, 80), Exchange("a"))
    dialer.close()


def test_who_cannot_be_reached_is_named_with_its_port() -> None:
    dialer = Dialer(limit_s=5, tls=None)
    closed = closed_port()
    with pytest.raises(DialError, match=rf"^127.0.0.1:{closed}: Connection refused$"):
        dialer.dial(Origin("http", "127.0.0.1", closed), Exchange("a"))
    with pytest.raises(DialError, match=rf"^\[::1\]:{closed}: "):
        dialer.dial(Origin("http", "::1", closed), Exchange("b"))
    dialer.close()
