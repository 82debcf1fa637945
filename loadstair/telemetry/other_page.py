"""A page that the plan of an external topology names beside its engines': what it holds, it tells itself."""

from dataclasses import dataclass

from loadstair.telemetry.nginx import balancer_series
from loadstair.telemetry.prometheus import fetch_page, gpu_readings
from loadstair.telemetry.source import Reading, SourceError
from loadstair.topology.endpoint import Endpoint

STATUS_PAGE_BEGINS = "Active connections:"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPage:
    """nginx's stub_status, or a DCGM exporter's metrics."""

    name: str
    endpoint: Endpoint
    url: str
    kind: str = "page"

    def read(self) -> list[Reading]:
        page = fetch_page(self.endpoint, self.url)
        try:
            if page.startswith(STATUS_PAGE_BEGINS):
                return [Reading(series=ours, value=value) for ours, value in balancer_series(page).items()]
            readings = gpu_readings(page)
        except ValueError as error:
            raise SourceError(f"{self.url}: {error}") from error
        if not readings:
            raise SourceError(f"{self.url}: neither nginx's stub_status nor the metrics of a DCGM exporter")
        return readings
