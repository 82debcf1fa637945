"""Faults that a test can ask an engine for: a closed union."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DieAt:
    """The process ends, without a word to its clients."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """Every completion is answered with this status and vLLM's error body."""

    code: Literal[429, 500]


@dataclass(frozen=True, slots=True)
class Html:
    """Every completion is answered 200 with an HTML page, as a captive proxy does."""


@dataclass(frozen=True, slots=True)
class NoDone:
    """Streams end in order after their last token: no finish_reason, no usage, no `[DONE]`."""


@dataclass(frozen=True, slots=True)
class NeverReady:
    """`/health` answers 503 for ever."""


Fault = DieAt | Status | Html | NoDone | NeverReady
FAULT_SYNTAX = "die-at=SECONDS, status=429, status=500, html, no-done or never-ready"


def parse_fault(text: str) -> Fault:
    """Raises ValueError if it is none of `FAULT_SYNTAX`."""
    name, _, value = text.partition("=")
    match name, value:
        case "die-at", seconds if seconds.replace(".", "", 1).isdigit():
            return DieAt(float(seconds))
        case "status", "429":
            return Status(429)
        case "status", "500":
            return Status(500)
        case "html", "":
            return Html()
        case "no-done", "":
            return NoDone()
        case "never-ready", "":
            return NeverReady()
        case _:
            raise ValueError(f"{text!r} is no fault; one of {FAULT_SYNTAX}")
