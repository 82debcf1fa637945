"""When the requests of an open loop are due: one schedule for all workers, whatever the server does.

Drawn from (seed, repeat, step) alone: both arms of a comparison get the same requests at the same moments, and every
worker can work out the whole schedule and send its share.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count, cycle
from typing import Any, NamedTuple, assert_never

from loadstair.plan.model import ArrivalKind
from loadstair.units import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Recorded arrivals, in order; the columns have one length, of at least two rows."""

    offsets_s: tuple[float, ...]
    """Since the first, which is 0; the last is more."""
    input_tokens: tuple[int, ...] | None
    """None where the trace does not say: the workload's lengths then count."""
    output_tokens: tuple[int, ...] | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Trace":
        inputs, outputs = values["input_tokens"], values["output_tokens"]
        return cls(
            offsets_s=tuple(values["offsets_s"]),
            input_tokens=None if inputs is None else tuple(inputs),
            output_tokens=None if outputs is None else tuple(outputs),
        )

    @property
    def period_s(self) -> float:
        """After which it begins again: the last arrival is followed by a mean gap."""
        return self.offsets_s[-1] * len(self.offsets_s) / (len(self.offsets_s) - 1)

    @property
    def rate(self) -> float:
        """Requests per second at its own pace."""
        return len(self.offsets_s) / self.period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    kind: ArrivalKind
    burstiness: float = 1.0
    """Of gamma: the shape of its gaps."""
    trace: Trace | None = None
    """Of trace."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Arrivals":
        trace = values["trace"]
        return cls(
            kind=ArrivalKind(values["kind"]),
            burstiness=values["burstiness"],
            trace=None if trace is None else Trace.from_dict(trace),
        )


class Due(NamedTuple):
    """One request of a step's schedule."""

    place: int
    """In the schedule, from 0: the request's index."""
    offset_ns: int
    """Since the schedule's beginning."""
    input_tokens: int | None
    """None: as the workload draws it."""
    output_tokens: int | None


def schedule(arrivals: Arrivals, *, rate: float, seed: int, repeat: int, step: int) -> Iterator[Due]:
    """The requests of one step at `rate` per second, in the order in which they are due, without an end."""
    if arrivals.kind is ArrivalKind.TRACE:
        assert arrivals.trace is not None
        yield from _replayed(arrivals.trace, rate)
        return
    offset_s = 0.0
    rng = random.Random(f"arrivals/{seed}/{repeat}/{step}")
    for place in count():
        match arrivals.kind:
            case ArrivalKind.CONSTANT:
                offset_s = place / rate
            case ArrivalKind.POISSON:
                offset_s += rng.expovariate(rate)
            case ArrivalKind.GAMMA:
                offset_s += rng.gammavariate(arrivals.burstiness, 1 / (arrivals.burstiness * rate))
            case _:
                assert_never(arrivals.kind)
        yield Due(place, round(offset_s * NS_PER_S), None, None)


def _replayed(trace: Trace, rate: float) -> Iterator[Due]:
    """Faster or slower than it was, so that its mean rate is `rate`; again from its beginning where it ends."""
    slower = trace.rate / rate
    inputs, outputs = (cycle(column or (None,)) for column in (trace.input_tokens, trace.output_tokens))
    places = count()
    for lap in count():
        for offset_s in trace.offsets_s:
            offset_ns = round((lap * trace.period_s + offset_s) * slower * NS_PER_S)
            yield Due(next(places), offset_ns, next(inputs), next(outputs))
