import pytest

from loadstair.telemetry.nginx import StatusPage, balancer_series
from loadstair.telemetry.source import SourceError
from tests.telemetry.scripted_page import served_page

PAGE = """Active connections: 291
server accepts handled requests
 16630948 16630945 31070465
Reading: 6 Writing: 179 Waiting: 106
"""


def test_the_status_page_gives_its_numbers() -> None:
    assert balancer_series(PAGE) == {
        "balancer.connections.active": 291,
        "balancer.connections.reading": 6,
        "balancer.connections.writing": 179,
        "balancer.connections.waiting": 106,
        "balancer.connections.dropped": 3,  # 16630948 accepted - 16630945 handled
        "balancer.requests": 31070465,
    }


@pytest.mark.parametrize("answer", ["hello", "", 502])
def test_another_page_is_an_error_of_the_source(answer: str | int) -> None:
    with served_page(lambda _: answer) as url, pytest.raises(SourceError, match="not a stub_status page"):
        StatusPage(name="a/balancer", url=url).read()
