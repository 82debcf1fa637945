"""Latencies of a hold that goes on: what all workers together say is what their records say."""

import numpy as np

from loadstair.load.latencies import StepLatencies, WorkerLatencies, merged
from loadstair.load.recorder import packed_row
from loadstair.samples.latency import itl_ns, ttft_ns
from loadstair.samples.record import Outcome, Phase, RequestSample
from tests.samples.records import record

RNG = np.random.default_rng(5)


def requests(count: int, *, step: int = 0, phase: Phase = Phase.HOLD) -> list[RequestSample]:
    made = []
    for index in range(count):
        gaps_ms = np.concatenate([RNG.lognormal(4, 0.5, size=1), RNG.lognormal(2, 0.3, size=30)])
        made.append(record(*np.cumsum(gaps_ms), index=index, step=step, phase=phase))
    return made


def nearest_rank(values: list[int], quantile: float) -> float:
    return float(np.sort(values)[int(np.ceil(quantile * len(values))) - 1])


def test_merged_over_workers_they_are_those_of_all_records_within_a_percent() -> None:
    made = requests(300)
    told = []
    for share in (made[:200], made[200:]):
        worker = WorkerLatencies()
        worker.add([packed_row(each) for each in share[:50]])
        told.append(worker.add([packed_row(each) for each in share[50:]])[0])
    seen = merged(told).in_ms()
    assert seen["requests"] == 300
    for name, values in (
        ("ttft", [ttft for each in made if (ttft := ttft_ns(each)) is not None]),
        ("itl", [gap for each in made for gap in itl_ns(each)]),
    ):
        for quantile in (0.5, 0.99):
            said = seen[f"{name}_ms_p{quantile * 100:.0f}"]
            assert said is not None
            assert abs(said * 1e6 / nearest_rank(values, quantile) - 1) < 0.01


def test_only_ok_requests_of_a_hold_count() -> None:
    (ok,) = requests(1)
    warm = requests(3, phase=Phase.WARMUP)
    failed = record(5, outcome=Outcome.TIMEOUT, phase=Phase.HOLD)
    worker = WorkerLatencies()
    told = worker.add([packed_row(each) for each in [ok, *warm, failed]])
    assert merged(told.values()).in_ms()["requests"] == 1
    assert worker.add([packed_row(each) for each in warm]) == {}


def test_without_a_request_there_is_no_value() -> None:
    assert merged([]).in_ms() == {
        "requests": 0,
        "ttft_ms_p50": None,
        "ttft_ms_p99": None,
        "itl_ms_p50": None,
        "itl_ms_p99": None,
    }


def test_what_a_worker_keeps_does_not_grow_with_the_steps() -> None:
    worker = WorkerLatencies()
    for step in range(50):
        told = worker.add([packed_row(each) for each in requests(2, step=step)])
        assert list(told) == [step]
        assert StepLatencies.unpacked(told[step]).requests == 2
    late = worker.add([packed_row(each) for each in requests(1, step=48)])
    assert StepLatencies.unpacked(late[48]).requests == 3
