"""The engines' own totals, read once: what the load's books are checked against."""

from loadstair.clock import Deadline, sleep_s
from loadstair.samples.runrecord import ServerCounters
from loadstair.telemetry.prometheus import fetch_engine_series
from loadstair.telemetry.source import SourceError
from loadstair.topology.endpoint import Endpoint

SETTLE_S = 2.0
SETTLE_LOOK_S = 0.1


def server_counters(endpoint: Endpoint) -> ServerCounters | None:
    """Summed over the replicas; None if there is a replica whose metrics page is unknown or did not answer.

    A single total is None if one of the replicas does not publish it.
    """
    pages = []
    for replica in endpoint.replicas:
        if replica.metrics_url is None:
            return None
        try:
            pages.append(fetch_engine_series(endpoint, replica.metrics_url))
        except SourceError:
            return None
    if not pages:
        return None

    def total(series: str) -> float | None:
        values = [page[series] for page in pages if series in page]
        return sum(values) if len(values) == len(pages) else None

    return ServerCounters(
        requests_finished=total("engine.requests.finished"),
        output_tokens=total("engine.tokens.generated"),
        input_tokens=total("engine.tokens.prompt"),
    )


def settled_counters(endpoint: Endpoint) -> ServerCounters | None:
    """The totals once they no longer move: an engine may count a request a moment after its last byte was read.

    At most `SETTLE_S`; the totals at that time if they still move (another client).
    """
    deadline = Deadline.after_s(SETTLE_S)
    last = server_counters(endpoint)
    while last is not None and not deadline.passed():
        sleep_s(SETTLE_LOOK_S)
        again = server_counters(endpoint)
        if again == last:
            break
        last = again
    return last
