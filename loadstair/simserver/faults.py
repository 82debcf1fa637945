"""Faults that a test can ask an engine for: a closed union, several at once.

`NAME[=VALUE][:from=SECONDS][:share=SHARE]`, separated by commas. `from` counts from the start of the engine and is 0
without it; `share` is the part of the requests that it befalls, all of them without it. Which ones is drawn from the
engine's seed and the number of the request, so that a run can be repeated.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from loadstair.units import ns_from_s

StatusCode = Literal[429, 500, 502, 503, 504]


@dataclass(frozen=True, slots=True)
class DieAt:
    """The process ends, without a word to its clients."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Stall:
    """No step begins for so long: nothing is sent, and whoever comes waits."""

    for_s: float
    from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """Steps take so many times as long, as on a GPU that throttles."""

    factor: float
    from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NeverReady:
    """`/health` answers 503 for ever."""


@dataclass(frozen=True, slots=True)
class Status:
    """Requests are answered with this status and the server's error body."""

    code: StatusCode
    from_s: float = 0.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Html:
    """Requests are answered 200 with an HTML page, as a captive proxy does."""

    from_s: float = 0.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class NoDone:
    """Streams end in order after their last token: no finish_reason, no usage, no `[DONE]`."""

    from_s: float = 0.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Truncate:
    """Streams are cut after half of their tokens: the connection is closed in the middle of the body."""

    from_s: float = 0.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class StreamError:
    """Streams end after half of their tokens with the server's error event."""

    from_s: float = 0.0
    share: float = 1.0


EngineFault = DieAt | Stall | Slow | NeverReady
RequestFault = Status | Html | NoDone | Truncate | StreamError
Fault = EngineFault | RequestFault

FAULT_SYNTAX = (
    "die-at=SECONDS, stall=SECONDS, slow=FACTOR, never-ready, status=429|500|502|503|504, html, no-done, truncate or "
    "stream-error; stall, slow and those after never-ready take :from=SECONDS, those after never-ready :share=SHARE too"
)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Those of a list separated by commas. Raises ValueError for one that `FAULT_SYNTAX` does not have."""
    return tuple(parse_fault(part) for part in text.split(","))


def parse_fault(text: str) -> Fault:
    """Raises ValueError if it is none of `FAULT_SYNTAX`."""
    head, *settings = text.split(":")
    name, _, value = head.partition("=")
    try:
        given = dict(_setting(setting) for setting in settings)
        if len(given) != len(settings):
            raise ValueError("a setting twice")
        return _fault(name, value, given)
    except (TypeError, ValueError) as error:  # a setting that the fault does not have, a value that is no number
        raise ValueError(f"{text!r} is no fault; one of {FAULT_SYNTAX}") from error


def _setting(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition("=")
    match name:
        case "from":
            return "from_s", _number(value)
        case "share" if 0 < _number(value) <= 1:
            return "share", _number(value)
        case _:
            raise ValueError(setting)


def _fault(name: str, value: str, given: dict[str, float]) -> Fault:
    """Raises TypeError for a setting that the fault does not have, and ValueError for all else that is wrong."""
    match name, value:
        case "die-at", seconds:
            return DieAt(_number(seconds), **given)
        case "stall", seconds:
            return Stall(_number(seconds), **given)
        case "slow", factor if _number(factor) > 0:
            return Slow(_number(factor), **given)
        case "status", code if code in {str(known) for known in get_args(StatusCode)}:
            return Status(int(code), **given)  # type: ignore[arg-type]  # one of the union's, as just checked
        case "never-ready", "":
            return NeverReady(**given)
        case "html", "":
            return Html(**given)
        case "no-done", "":
            return NoDone(**given)
        case "truncate", "":
            return Truncate(**given)
        case "stream-error", "":
            return StreamError(**given)
        case _:
            raise ValueError(name)


def _number(text: str) -> float:
    """A decimal without sign or exponent. Raises ValueError."""
    if not text.replace(".", "", 1).isdecimal():
        raise ValueError(text)
    return float(text)


def request_faults(
    faults: Iterable[Fault], *, seed: int, number: int, since_start_s: float
) -> tuple[RequestFault, ...]:
    """Those that befall request `number` (from 0) of an engine that has run for so long."""
    return tuple(
        fault
        for place, fault in enumerate(faults)
        if isinstance(fault, RequestFault)
        and since_start_s >= fault.from_s
        and (fault.share >= 1 or random.Random(f"{seed} {number} {place}").random() < fault.share)
    )


class Pace:
    """When steps begin and how long they take on an engine with `Stall` and `Slow` faults."""

    def __init__(self, faults: Iterable[Fault], *, start_ns: int) -> None:
        """`start_ns`: when the engine started, on the clock of its steps."""
        self._stalls = tuple(
            (start_ns + ns_from_s(fault.from_s), start_ns + ns_from_s(fault.from_s + fault.for_s))
            for fault in faults
            if isinstance(fault, Stall)
        )
        self._slow = tuple(
            (start_ns + ns_from_s(fault.from_s), fault.factor) for fault in faults if isinstance(fault, Slow)
        )

    def begins_ns(self, wanted_ns: int) -> int:
        """When a step begins that could begin at `wanted_ns`: at once, or when the stall is over."""
        for from_ns, until_ns in sorted(self._stalls):
            if from_ns <= wanted_ns < until_ns:
                wanted_ns = until_ns
        return wanted_ns

    def duration_ns(self, begins_ns: int, modelled_ns: int) -> int:
        for from_ns, factor in self._slow:
            if begins_ns >= from_ns:
                modelled_ns = round(modelled_ns * factor)
        return modelled_ns


STEADY = Pace((), start_ns=0)
