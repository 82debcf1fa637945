import threading
from dataclasses import dataclass, field

import pyarrow as pa

from loadstair.clock import Deadline, sleep_s
from loadstair.samples.table import TELEMETRY_SCHEMA
from loadstair.telemetry.sampler import Gap, Sampler
from loadstair.telemetry.source import Reading, Row, SourceError


@dataclass
class Counting:
    """Yields 1, 2, 3 …"""

    name: str
    kind: str = "counter"
    reads: int = 0

    def read(self) -> list[Reading]:
        self.reads += 1
        return [Reading(series="count", value=float(self.reads))]


@dataclass
class Failing:
    name: str = "broken"
    kind: str = "failure"
    error: Exception = field(default_factory=lambda: SourceError("no answer"))
    reads: int = 0

    def read(self) -> list[Reading]:
        self.reads += 1
        raise self.error


@dataclass
class Hanging:
    """Answers once the test lets it."""

    release: threading.Event
    name: str = "hung"
    kind: str = "hang"

    def read(self) -> list[Reading]:
        self.release.wait(60)
        return [Reading(series="late", value=1.0)]


def wait_for_reads(source: Counting | Failing, count: int) -> None:
    deadline = Deadline.after_s(60)
    while source.reads < count:
        assert not deadline.passed()
        sleep_s(0.005)


def test_rows_come_in_order_and_are_taken_once() -> None:
    source = Counting("host")
    with Sampler([source], interval_s=0.01) as sampler:
        wait_for_reads(source, 4)
        first = sampler.take_rows()
        wait_for_reads(source, source.reads + 3)
        second = sampler.take_rows()
    values = [row.value for row in first + second]
    assert len(second) > 0
    assert values == [float(count) for count in range(1, len(values) + 1)]
    assert [row.time_ns for row in first + second] == sorted(row.time_ns for row in first + second)


def test_rows_fit_the_telemetry_table() -> None:
    rows = [Row(1, "a/engine0", "engine.kv.usage", "", 0.5)]
    table = pa.Table.from_pylist([row._asdict() for row in rows], schema=TELEMETRY_SCHEMA)
    assert table.to_pylist() == [
        {"time_ns": 1, "source": "a/engine0", "series": "engine.kv.usage", "labels": "", "value": 0.5}
    ]


def test_a_failing_source_leaves_gaps_and_disturbs_no_other() -> None:
    good, bad = Counting("good"), Failing()
    with Sampler([bad, good], interval_s=0.01) as sampler:
        wait_for_reads(bad, 3)
        wait_for_reads(good, 3)
        gaps = sampler.gaps()
        rows = sampler.take_rows()
    assert {row.source for row in rows} == {"good"}
    broken = [gap for gap in gaps if gap.source == "broken"]
    assert len(broken) == 1
    assert broken[0].missed == broken[0].ticks >= 2
    assert broken[0].last_error in ("no answer", "a read took longer than the interval")


def test_a_defect_in_a_source_is_a_gap_too() -> None:
    bad = Failing(error=KeyError("oops"))
    with Sampler([bad], interval_s=30) as sampler:
        deadline = Deadline.after_s(60)
        while not sampler.gaps():
            assert not deadline.passed()
            sleep_s(0.005)
        (gap,) = sampler.gaps()
    assert gap == Gap(source="broken", kind="failure", ticks=1, missed=1, last_error="KeyError: 'oops'")


def test_a_source_that_hangs_delays_no_other() -> None:
    release = threading.Event()
    good = Counting("good")
    with Sampler([Hanging(release), good], interval_s=0.01) as sampler:
        wait_for_reads(good, 5)  # while the other one has not answered once
        assert {row.source for row in sampler.take_rows()} == {"good"}
        release.set()


def test_ticks_missed_during_a_slow_read_are_counted() -> None:
    release = threading.Event()
    hung, good = Hanging(release), Counting("good")
    with Sampler([hung, good], interval_s=0.01) as sampler:
        wait_for_reads(good, 5)
        release.set()
        deadline = Deadline.after_s(60)
        while not (gaps := [gap for gap in sampler.gaps() if gap.source == "hung"]):
            assert not deadline.passed()
            sleep_s(0.005)
    assert gaps[0].missed >= 1
    assert gaps[0].last_error == "a read took longer than the interval"


def test_no_thread_is_left() -> None:
    with Sampler([Counting("a"), Failing()], interval_s=0.01):
        assert {thread.name for thread in threading.enumerate()} >= {"telemetry a", "telemetry broken"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("telemetry ")]
