"""A step's latencies while it goes on: histograms that add up over the workers, for whoever watches a run.

The report has every record and uses none of this. What travels is as small after an hour as after a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from loadstair.samples.histogram import LogHistogram
from loadstair.samples.record import SAMPLE_FIELDS, Outcome, Phase
from loadstair.units import NS_PER_MS

STEPS_KEPT: Final = 2
"""A request of a step's hold may end while the next one has begun."""
QUANTILES: Final = (0.5, 0.99)

_STEP, _PHASE, _OUTCOME, _SENT, _FIRST, _ARRIVALS = (
    SAMPLE_FIELDS.index(name) for name in ("step", "phase", "outcome", "sent_ns", "first_token_ns", "arrivals")
)

Packed = dict[str, Any]


class StepLatencies:
    """Of the ok requests dispatched in one step's hold, as far as they have their record."""

    __slots__ = ("itl", "requests", "ttft")

    def __init__(self) -> None:
        self.requests = 0
        self.ttft = LogHistogram()
        self.itl = LogHistogram()

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows as `loadstair.load.recorder.packed_row` makes them, each of an ok request that brought text."""
        self.requests += len(rows)
        self.ttft.record([row[_FIRST] - row[_SENT] for row in rows])
        gaps = [np.diff(np.frombuffer(row[_ARRIVALS], dtype="<i8")) for row in rows]
        if gaps:
            self.itl.record(np.concatenate(gaps))

    def merge(self, other: "StepLatencies") -> None:
        self.requests += other.requests
        self.ttft.merge(other.ttft)
        self.itl.merge(other.itl)

    def packed(self) -> Packed:
        """Some hundred bytes."""
        return {"requests": self.requests, "ttft": self.ttft.to_bytes(), "itl": self.itl.to_bytes()}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> "StepLatencies":
        """Raises ValueError or KeyError."""
        latencies = cls()
        latencies.requests = int(packed["requests"])
        latencies.ttft = LogHistogram.from_bytes(packed["ttft"])
        latencies.itl = LogHistogram.from_bytes(packed["itl"])
        return latencies

    def in_ms(self) -> dict[str, float | int | None]:
        """`requests`, and p50 and p99 of TTFT and ITL in ms, within 1 %; None where there is no such value yet."""
        said: dict[str, float | int | None] = {"requests": self.requests}
        for name, histogram in (("ttft", self.ttft), ("itl", self.itl)):
            for quantile, value_ns in zip(QUANTILES, histogram.percentiles_ns(QUANTILES), strict=True):
                said[f"{name}_ms_p{quantile * 100:.0f}"] = None if value_ns is None else value_ns / NS_PER_MS
        return said


class WorkerLatencies:
    """One worker's, by step. What it tells is cumulative: a message that is lost costs nothing once the next came."""

    def __init__(self) -> None:
        self._steps: dict[int, StepLatencies] = {}

    def add(self, rows: Iterable[Sequence[Any]]) -> dict[int, Packed]:
        """What is known now of the steps that these rows belong to."""
        by_step: dict[int, list[Sequence[Any]]] = {}
        for row in rows:
            if row[_PHASE] == Phase.HOLD and row[_OUTCOME] == Outcome.OK and row[_FIRST] is not None:
                by_step.setdefault(row[_STEP], []).append(row)
        for step, own in by_step.items():
            self._steps.setdefault(step, StepLatencies()).add(own)
        for step in list(self._steps)[:-STEPS_KEPT]:
            del self._steps[step]
        return {step: self._steps[step].packed() for step in by_step if step in self._steps}


def merged(packed: Iterable[Mapping[str, Any]]) -> StepLatencies:
    """Of all workers: the same as recording everything in one place. Raises ValueError or KeyError."""
    whole = StepLatencies()
    for one in packed:
        whole.merge(StepLatencies.unpacked(one))
    return whole
