from collections.abc import Sequence

import pytest

from loadstair.errors import LoadError
from loadstair.samples.process import WorkerProcess
from loadstair.telemetry.source import Reading, SourceError
from loadstair.telemetry.workers_elsewhere import WorkersElsewhere
from loadstair.units import NS_PER_S


def used(worker: str, at_s: float, cpu_s: float, memory_bytes: int | None = None) -> WorkerProcess:
    return WorkerProcess(worker=worker, at_ns=round(at_s * NS_PER_S), cpu_s=cpu_s, memory_bytes=memory_bytes)


def reads(*told: Sequence[WorkerProcess]) -> list[list[Reading]]:
    answers = iter(told)
    source = WorkersElsewhere(lambda: next(answers))
    return [source.read() for _ in told]


def cpu(worker: str, percent: float) -> Reading:
    return Reading(series="generator.cpu_percent", value=percent, part=worker)


def test_a_workers_cpu_is_a_share_of_a_core_over_the_time_of_its_own_clock() -> None:
    first, second = reads(
        [used("worker-0", 100, 7.0), used("worker-1", 5000, 1.0)],
        [used("worker-0", 101, 7.5), used("worker-1", 5002, 1.5)],
    )
    assert first == []
    assert second == [cpu("worker-0", 50), cpu("worker-1", 25)]  # 0.5 s of 1 s, 0.5 s of 2 s


def test_its_memory_is_told_from_the_first_read_on_and_left_out_where_it_is_not_known() -> None:
    (readings,) = reads([used("worker-0", 1, 1.0, 5000), used("worker-1", 1, 1.0)])
    assert readings == [Reading(series="generator.memory_bytes", value=5000.0, part="worker-0")]


def test_a_worker_that_was_lost_has_no_readings_and_the_others_go_on() -> None:
    *_, last = reads(
        [used("worker-0", 1, 1.0), used("worker-1", 1, 1.0)],
        [used("worker-1", 2, 1.1)],
    )
    assert last == [cpu("worker-1", pytest.approx(10))]


def test_a_master_that_does_not_answer_is_an_error_of_the_source() -> None:
    def ask() -> Sequence[WorkerProcess]:
        raise LoadError("the load's controller does not answer")

    with pytest.raises(SourceError, match="does not answer"):
        WorkersElsewhere(ask).read()
