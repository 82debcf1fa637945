"""What a deployment costs, by the hour, the token and the request, and from which use on it beats an API."""

from dataclasses import dataclass

from loadstair.serving.gpu import Gpu
from loadstair.sizing.case import Case
from loadstair.sizing.speed import Speed

HOURS_PER_DAY = 24
S_PER_HOUR = 3600
S_PER_DAY = HOURS_PER_DAY * S_PER_HOUR


@dataclass(frozen=True, slots=True)
class UsdRange:
    """Low and high are the same where the user gave the price."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def __mul__(self, factor: float) -> "UsdRange":
        return UsdRange(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one GPU for an hour."""

    usd_per_hour: UsdRange
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """Of somebody else's API."""

    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float

    def usd_per_request(self, case: Case) -> float:
        spent = case.input_tokens * self.usd_per_million_input_tokens
        return (spent + case.output_tokens * self.usd_per_million_output_tokens) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """When the asked requests are under way for a share of the time, and none for the rest."""

    busy_share: float
    usd_per_million_output_tokens: UsdRange
    usd_per_million_tokens: UsdRange
    """Input and output together."""
    usd_per_million_requests: UsdRange


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Against an API."""

    requests_per_day: UsdRange
    """From so many on the own GPUs are cheaper."""
    requests_per_day_max: float
    """That they can serve."""
    api_usd_per_million_requests: float

    @property
    def reached(self) -> bool | None:
        """Whether they can serve so many; None where that depends on the price of the GPUs."""
        if self.requests_per_day.high <= self.requests_per_day_max:
            return True
        return False if self.requests_per_day.low > self.requests_per_day_max else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    usd_per_hour: UsdRange
    full_use: UnitCost
    part_use: UnitCost
    break_even: BreakEven | None
    """None without the price of an API."""


def listed_price(gpu: Gpu) -> Price:
    return Price(
        usd_per_hour=UsdRange(gpu.usd_per_hour_low, gpu.usd_per_hour_high),
        source=f"{gpu.usd_per_hour_as_of}: {gpu.usd_per_hour_source}",
    )


def given_price(usd_per_hour: float) -> Price:
    return Price(usd_per_hour=UsdRange(usd_per_hour, usd_per_hour), source="given")


def cost(case: Case, speed: Speed, gpus: int, price: Price, busy_share: float, api: ApiPrice | None) -> Cost:
    usd_per_hour = price.usd_per_hour * gpus
    return Cost(
        usd_per_hour=usd_per_hour,
        full_use=_unit_cost(case, speed, usd_per_hour, 1.0),
        part_use=_unit_cost(case, speed, usd_per_hour, busy_share),
        break_even=None if api is None else _break_even(case, speed, usd_per_hour, api),
    )


def _unit_cost(case: Case, speed: Speed, usd_per_hour: UsdRange, busy_share: float) -> UnitCost:
    of_a_million_requests = usd_per_hour * (1e6 / (speed.requests_per_s * S_PER_HOUR * busy_share))
    return UnitCost(
        busy_share=busy_share,
        usd_per_million_output_tokens=of_a_million_requests * (1 / case.output_tokens),
        usd_per_million_tokens=of_a_million_requests * (1 / (case.input_tokens + case.output_tokens)),
        usd_per_million_requests=of_a_million_requests,
    )


def _break_even(case: Case, speed: Speed, usd_per_hour: UsdRange, api: ApiPrice) -> BreakEven:
    usd_per_request = api.usd_per_request(case)
    return BreakEven(
        requests_per_day=usd_per_hour * (HOURS_PER_DAY / usd_per_request),
        requests_per_day_max=speed.requests_per_s * S_PER_DAY,
        api_usd_per_million_requests=usd_per_request * 1e6,
    )
