"""One side of a comparison, as far as it is to be held against the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadstair.analysis.comparison.settings import EngineSettings, engine_settings
from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.pool import LoadStep
from loadstair.plan.model import TopologyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    topology: TopologyPlan
    fingerprint: Mapping[str, Any]
    """As in run.json; empty where the topology never came up."""
    steps: Sequence[LoadStep]

    @property
    def name(self) -> str:
        return self.topology.name

    @property
    def engines(self) -> tuple[EngineSettings, ...]:
        return engine_settings(self.topology)

    @property
    def engine_count(self) -> int | None:
        """Of the plan, or as it was seen; None for an endpoint of which nothing is known."""
        seen = self.fingerprint.get("engine_count")
        return len(self.engines) or (seen if isinstance(seen, int) else None)

    @property
    def valid(self) -> dict[float, LoadStep]:
        return {step.load: step for step in self.steps if step.valid}

    def seen(self, what: str) -> Any:
        """`models`, `server` or `version`; None where it did not say."""
        return (self.fingerprint.get("seen") or {}).get(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    finding: Finding
    brief: str | None = None
    """What differs in a few words, to stand in the answer's sentence; None where that would say too much of it."""


def both_valid(first: Arm, other: Arm) -> list[tuple[LoadStep, LoadStep]]:
    """By load, rising: the steps that are compared."""
    ours, theirs = first.valid, other.valid
    return [(ours[load], theirs[load]) for load in sorted(ours.keys() & theirs.keys())]
