"""nginx's stub_status page."""

import re
from dataclasses import dataclass

from loadstair.fetch import FetchError, fetch
from loadstair.telemetry.source import Reading, SourceError

PAGE_TIMEOUT_S = 2.0
PAGE_BYTES_MAX = 64 * 1024

_PAGE = re.compile(
    r"Active connections:\s*(?P<active>\d+)\s+server accepts handled requests\s+"
    r"(?P<accepts>\d+)\s+(?P<handled>\d+)\s+(?P<requests>\d+)\s+"
    r"Reading:\s*(?P<reading>\d+)\s+Writing:\s*(?P<writing>\d+)\s+Waiting:\s*(?P<waiting>\d+)"
)


def balancer_series(page: str) -> dict[str, float]:
    """Our series from a stub_status page. This read is in them: one of `active`, `writing` and `requests`.

    `writing` less one is about the number of streams under way.

    Raises ValueError for anything else.
    """
    match = _PAGE.search(page)
    if match is None:
        raise ValueError("not a stub_status page")
    count = {name: float(text) for name, text in match.groupdict().items()}
    return {
        "balancer.connections.active": count["active"],
        "balancer.connections.reading": count["reading"],
        "balancer.connections.writing": count["writing"],
        "balancer.connections.waiting": count["waiting"],
        "balancer.connections.dropped": count["accepts"] - count["handled"],
        "balancer.requests": count["requests"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPage:
    name: str
    url: str
    kind: str = "status page"

    def read(self) -> list[Reading]:
        try:
            answer = fetch(self.url, timeout_s=PAGE_TIMEOUT_S, body_bytes_max=PAGE_BYTES_MAX)
            series = balancer_series(answer.text())
        except (FetchError, ValueError) as error:
            raise SourceError(f"{self.url}: {error}") from error
        return [Reading(series=ours, value=value) for ours, value in series.items()]
