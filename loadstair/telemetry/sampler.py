"""Reads every source once an interval, beside the load. A source that fails leaves a gap, never an error."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loadstair.clock import monotonic_ns, now_ns
from loadstair.telemetry.source import Reading, Row, Source, SourceError
from loadstair.units import NS_PER_S, ns_from_s

JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A source that did not yield rows at every tick."""

    source: str
    kind: str
    ticks: int
    """How often it should have been read."""
    missed: int
    """How often it failed, or was still busy with an earlier read."""
    last_error: str


class Sampler:
    """One thread for each source, so that a page that hangs delays no other. Leaving the `with` block ends them."""

    def __init__(self, sources: Sequence[Source], *, interval_s: float = 1.0) -> None:
        self._stopping = threading.Event()
        self._rows: list[Row] = []
        self._lock = threading.Lock()
        self._readers = [
            _Reader(source, ns_from_s(interval_s), self._stopping, self._rows, self._lock) for source in sources
        ]

    def take_rows(self) -> list[Row]:
        """The rows since the last call, in the order in which they were read."""
        with self._lock:
            taken = self._rows.copy()
            self._rows.clear()
        return taken

    def gaps(self) -> list[Gap]:
        """Sources that missed a tick so far."""
        gaps = (reader.gap() for reader in self._readers)
        return [gap for gap in gaps if gap is not None]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        until_ns = monotonic_ns() + ns_from_s(JOIN_TIMEOUT_S)
        for reader in self._readers:
            reader.join(timeout=max(0.0, (until_ns - monotonic_ns()) / NS_PER_S))


class _Reader(threading.Thread):
    def __init__(
        self, source: Source, interval_ns: int, stopping: threading.Event, rows: list[Row], lock: threading.Lock
    ) -> None:
        # Daemon: a reader stuck in a system call must not keep the orchestrator from exiting.
        super().__init__(name=f"telemetry {source.name}", daemon=True)
        self._source = source
        self._interval_ns = interval_ns
        self._stopping = stopping
        self._rows = rows
        self._lock = lock
        self._ticks = 0
        self._missed = 0
        self._last_error = ""

    def gap(self) -> Gap | None:
        with self._lock:
            if self._missed == 0:
                return None
            return Gap(
                source=self._source.name,
                kind=self._source.kind,
                ticks=self._ticks,
                missed=self._missed,
                last_error=self._last_error,
            )

    def run(self) -> None:
        next_ns = monotonic_ns()
        while not self._stopping.is_set():
            self._read_once()
            next_ns += self._interval_ns
            late_ns = monotonic_ns() - next_ns
            if late_ns > 0:
                skipped = late_ns // self._interval_ns + 1
                next_ns += skipped * self._interval_ns
                self._miss(skipped, "a read took longer than the interval")
            self._stopping.wait(max(0.0, (next_ns - monotonic_ns()) / NS_PER_S))

    def _read_once(self) -> None:
        try:
            readings = self._source.read()
        except SourceError as error:
            self._miss(1, str(error))
            return
        except Exception as error:  # noqa: BLE001  a defect in a source must not end the measurement
            self._miss(1, f"{type(error).__name__}: {error}")
            return
        time_ns = now_ns()
        rows = [Row(time_ns, self._name_of(one), one.series, one.labels, one.value) for one in readings]
        with self._lock:
            self._ticks += 1
            if not self._stopping.is_set():
                self._rows += rows

    def _name_of(self, reading: Reading) -> str:
        return f"{self._source.name}/{reading.part}" if reading.part else self._source.name

    def _miss(self, ticks: int, error: str) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            self._ticks += ticks
            self._missed += ticks
            self._last_error = error
