"""The answer: which deployments carry a case, how fast, for what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadstair.serving.gpu import Gpu
from loadstair.sizing.case import Case, Limits
from loadstair.sizing.claims import Claim, claims
from loadstair.sizing.cost import ApiPrice, Cost, Price, cost, listed_price
from loadstair.sizing.fit import GPUS_MAX, Fit, carrying, largest, placements
from loadstair.sizing.partition import Partition
from loadstair.sizing.speed import Expected, Speed, speed


class Met(StrEnum):
    """Whether a limit is kept, given how far off the closed form may be."""

    YES = "meets"
    NEAR = "near"
    """The limit lies between what it may be at least and at most: a forecast or a measurement decides."""
    NO = "misses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A deployment that carries the load."""

    fit: Fit
    speed: Speed
    price: Price
    cost: Cost
    ttft: Met | None
    itl: Met | None
    """None without a limit."""

    @property
    def met(self) -> Met | None:
        """The worse one of both; None without limits."""
        asked = [met for met in (self.ttft, self.itl) if met is not None]
        return max(asked, key=list(Met).index, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What the user says of prices."""

    usd_per_hour: Mapping[str, Price]
    """By the GPU's name; for others the catalogue's range counts."""
    api: ApiPrice | None
    busy_share: float

    def price(self, gpu: Gpu) -> Price:
        return self.usd_per_hour.get(gpu.name) or listed_price(gpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    case: Case
    candidates: tuple[Candidate, ...]
    """For each GPU and TP the fewest engines that carry the load and do not miss a limit; where all miss it, the fewest
    that carry. Those that do not miss first, then by the middle of the price."""
    too_small: tuple[Fit, ...]
    """As many engines as there may be, on those GPUs and TPs that do not carry the load."""
    partitions: tuple[Partition, ...]
    claims: tuple[Claim, ...]
    busy_share: float

    @property
    def misses_limits(self) -> bool:
        return bool(self.candidates) and all(one.met is Met.NO for one in self.candidates)


def size(
    case: Case, gpus: Sequence[Gpu], money: Money, *, gpus_max: int = GPUS_MAX, partitions: Sequence[Partition] = ()
) -> Sizing:
    found: list[Candidate] = []
    too_small: list[Fit] = []
    for gpu, tp in placements(case.model, gpus, gpus_max):
        fits = carrying(case, gpu, tp, gpus_max)
        if fits:
            found.append(_cheapest(case, fits, money))
        else:
            too_small.append(largest(case, gpu, tp, gpus_max))
    candidates = tuple(sorted(found, key=lambda one: (one.met is Met.NO, one.cost.usd_per_hour.middle)))
    return Sizing(
        case=case,
        candidates=candidates,
        too_small=tuple(too_small),
        partitions=tuple(partitions),
        claims=claims(case, [(one.fit, one.speed) for one in candidates], shared=bool(partitions)),
        busy_share=money.busy_share,
    )


def _cheapest(case: Case, fits: Sequence[Fit], money: Money) -> Candidate:
    """Of rising numbers of engines."""
    candidates = (_candidate(case, one, money) for one in fits)
    first = next(candidates)
    if first.met is not Met.NO:
        return first
    return next((one for one in candidates if one.met is not Met.NO), first)


def _candidate(case: Case, fit: Fit, money: Money) -> Candidate:
    expected = speed(case, fit.gpu, fit.tp, fit.engines)
    price = money.price(fit.gpu)
    limits: Limits = case.limits
    return Candidate(
        fit=fit,
        speed=expected,
        price=price,
        cost=cost(case, expected, fit.gpus, price, money.busy_share, money.api),
        ttft=_met(expected.ttft_s_p99, limits.ttft_s_p99),
        itl=_met(expected.itl_s_p99, limits.itl_s_p99),
    )


def _met(expected: Expected, limit: float | None) -> Met | None:
    if limit is None:
        return None
    if expected.high <= limit:
        return Met.YES
    return Met.NO if expected.low > limit else Met.NEAR
