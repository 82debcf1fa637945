"""What the simulated users keep of their requests: counters by step, and the rows of the samples' table."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from loadstair.forecast.cluster import Flight
from loadstair.plan.workload import RequestSpec
from loadstair.samples.look import HoldLatencies
from loadstair.samples.record import Outcome, Phase, StampClock
from loadstair.samples.runrecord import Counters
from loadstair.samples.table import SAMPLE_SCHEMA
from loadstair.units import NS_PER_MS

WORKER = "forecast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """Under which a request is sent."""

    step: int
    load: float
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request that is to be sent."""

    tag: Tag
    index: int
    ordinal: int | None = None
    """The user's; None in an open loop."""
    due_ns: int | None = None
    """None in a closed loop."""
    input_tokens: int | None = None
    """Of a replayed trace; None: as the workload draws it."""
    output_tokens: int | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Sent:
    """A request that was dispatched."""

    wanted: Wanted
    spec: RequestSpec
    flight: Flight
    outcome: Outcome | None = None
    """None while it is under way."""
    end_ns: int = 0
    error: str | None = None

    @property
    def tag(self) -> Tag:
        return self.wanted.tag


@dataclass(slots=True)
class _Counts:
    started: int = 0
    scheduled: int = 0
    held_back: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def counters(self) -> Counters:
        ok, killed = self.outcomes[Outcome.OK], self.outcomes[Outcome.KILLED]
        return Counters(
            started=self.started,
            ok=ok,
            failed=self.outcomes.total() - ok - killed,
            killed=killed,
            scheduled=self.scheduled,
            held_back=self.held_back,
        )


class Books:
    """Of one visit."""

    def __init__(self, *, visit: int, topology: str, repeat: int) -> None:
        self.under_way: set[Sent] = set()
        self._visit = visit
        self._topology = topology
        self._repeat = repeat
        self._counts: defaultdict[int, _Counts] = defaultdict(_Counts)
        self._under_way_in_hold: Counter[int] = Counter()
        self._ended: list[Sent] = []
        self._hold_ttft_ms: list[float] = []
        self._hold_tpot_ms: list[float] = []
        self._hold_step: int | None = None
        """Whose the lists above are."""

    def scheduled(self, step: int) -> None:
        self._counts[step].scheduled += 1

    def held_back(self, step: int) -> None:
        self._counts[step].held_back += 1

    def start(self, sent: Sent) -> None:
        self.under_way.add(sent)
        self._counts[sent.tag.step].started += 1
        self._under_way_in_hold[sent.tag.step] += sent.tag.phase is Phase.HOLD

    def end(self, sent: Sent, outcome: Outcome, end_ns: int, error: str | None = None) -> None:
        sent.outcome, sent.end_ns, sent.error = outcome, end_ns, error
        self.under_way.discard(sent)
        self._counts[sent.tag.step].outcomes[outcome] += 1
        self._ended.append(sent)
        if sent.tag.phase is Phase.HOLD:
            self._under_way_in_hold[sent.tag.step] -= 1
            if outcome is Outcome.OK and sent.tag.step == self._hold_step:
                self._note_latencies(sent.flight)

    def _note_latencies(self, flight: Flight) -> None:
        stamps = flight.token_ns
        self._hold_ttft_ms.append((stamps[0] - flight.sent_ns) / NS_PER_MS)
        if len(stamps) > 1:
            self._hold_tpot_ms.append((stamps[-1] - stamps[0]) / (len(stamps) - 1) / NS_PER_MS)

    def begin_step(self, step: int) -> None:
        self._hold_step, self._hold_ttft_ms, self._hold_tpot_ms = step, [], []

    def under_way_in_hold(self, step: int) -> int:
        return self._under_way_in_hold[step]

    def hold_latencies(self) -> HoldLatencies:
        """Without ITL: whoever looks at a forecast while it goes on asks for TTFT at most."""
        if not self._hold_ttft_ms:
            return HoldLatencies(requests=0, ttft_ms_p50=None, ttft_ms_p99=None, itl_ms_p50=None, itl_ms_p99=None)
        p50, p99 = np.percentile(self._hold_ttft_ms, (50, 99))
        return HoldLatencies(
            requests=len(self._hold_ttft_ms),
            ttft_ms_p50=float(p50),
            ttft_ms_p99=float(p99),
            itl_ms_p50=None,
            itl_ms_p99=None,
        )

    def hold_tpot_ms_p50(self) -> float | None:
        """None where no answer of the hold had two tokens."""
        return float(np.median(self._hold_tpot_ms)) if self._hold_tpot_ms else None

    def counters(self) -> dict[int, Counters]:
        return {step: counts.counters() for step, counts in self._counts.items()}

    def take_table(self) -> pa.Table:
        """Of SAMPLE_SCHEMA: the requests that ended since the last call, in that order."""
        ended, self._ended = self._ended, []
        columns: dict[str, Any] = {name: [] for name in SAMPLE_SCHEMA.names if name != "arrivals"}
        for sent in ended:
            for name, value in self._row(sent).items():
                columns[name].append(value)
        arrivals = _lists([sent.flight for sent in ended])
        arrays = [
            arrivals if one.name == "arrivals" else pa.array(columns[one.name], type=one.type) for one in SAMPLE_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=SAMPLE_SCHEMA)

    def _row(self, sent: Sent) -> dict[str, Any]:
        tag, spec, flight = sent.tag, sent.spec, sent.flight
        stamps = flight.token_ns
        answered = sent.outcome is Outcome.OK
        return {
            "request_id": f"forecast-{self._visit}-{tag.step}-{sent.wanted.index}",
            "visit": self._visit,
            "topology": self._topology,
            "repeat": self._repeat,
            "step": tag.step,
            "load": tag.load,
            "phase": str(tag.phase),
            "worker": WORKER,
            "index": sent.wanted.index,
            "due_ns": sent.wanted.due_ns,
            "dispatch_ns": flight.sent_ns,
            "sent_ns": flight.sent_ns,
            "dns_ns": None,
            "connect_ns": None,
            "tls_ns": None,
            "headers_ns": None,
            "first_token_ns": stamps[0] if stamps else None,
            "last_token_ns": stamps[-1] if stamps else None,
            "end_ns": sent.end_ns,
            "chunk_tokens": None,
            "output_tokens": len(stamps) if answered else None,
            "input_tokens": spec.input_tokens if answered else None,
            "cached_input_tokens": None,
            "output_tokens_asked": spec.output_tokens,
            "input_tokens_asked": spec.input_tokens,
            "outcome": str(sent.outcome),
            "status": flight.refused.status if flight.refused is not None else 200 if stamps else None,
            "error": sent.error,
            "finish_reason": flight.finish if answered else None,
            "upstream": flight.upstream,
            "read_lag_ns": None,
            "bunched": 0,
            "bunched_late": 0,
            "late_reads": 0,
            "clock": str(StampClock.SIMULATED),
            "clock_step": False,
        }


def _lists(flights: list[Flight]) -> pa.Array:
    """Their stamps as one column, without a Python object for each."""
    lengths = [len(flight.token_ns) for flight in flights]
    offsets = np.zeros(len(flights) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    stamps = [np.frombuffer(flight.token_ns, np.int64) for flight in flights if flight.token_ns]
    flat = np.concatenate(stamps) if stamps else np.zeros(0, np.int64)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), type=SAMPLE_SCHEMA.field("arrivals").type)
