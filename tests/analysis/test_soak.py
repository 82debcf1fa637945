from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from loadstair.analysis.shape.soak import Soak, soak
from loadstair.analysis.statistics.estimate import Finding, Severity
from loadstair.analysis.step.measure import measure_visit
from loadstair.analysis.step.pool import JudgedStep
from loadstair.plan.model import Plan
from loadstair.samples.record import RequestSample
from loadstair.units import NS_PER_S
from tests.analysis.synthetic import Server, SyntheticRun, failed, plan_of, simulate

HOLD_S = 120
SERVERS = {"tp4": Server(ttft_ms=lambda _: 100, itl_ms=lambda _: 10)}
PER_HOUR = 3600 / HOLD_S
GIB = 2.0**30
NAMES = {"engine_kv_usage": "engine.kv.usage", "engine_requests_waiting": "engine.requests.waiting"}


def plan(seed: int = 3, **load: object) -> Plan:
    return plan_of(
        SERVERS,
        seed=seed,
        workload={
            "model": "Qwen/Qwen2.5-32B-Instruct",
            "input_tokens": 128,
            "output_tokens": {"mean": 8, "cv": 0.2},
        },
        load={"shape": "soak", "steps": [4], "hold_s": HOLD_S, **load},
    )


@cache
def steady(seed: int = 3) -> SyntheticRun:
    """4 users, 100 ms + 7 × 10 ms a request: 4 / 0.171 s ≈ 23 requests/s, 2,800 in the hold."""
    return simulate(SERVERS, plan(seed))


def hold_share(run: SyntheticRun, row: RequestSample) -> float:
    """Where in its visit's hold it was dispatched, 0 to 1."""
    step = run.run.visits[row.visit].steps[0]
    return (row.dispatch_ns - step.hold_start_ns) / (step.hold_end_ns - step.hold_start_ns)


def slower(run: SyntheticRun, factor: float) -> SyntheticRun:
    """All latencies grow linearly, up to `factor` of what they were at the hold's end."""

    def change(row: RequestSample) -> RequestSample:
        by = 1 + (factor - 1) * max(0.0, hold_share(run, row))
        arrivals = [row.dispatch_ns + round((at - row.dispatch_ns) * by) for at in row.arrivals]
        return replace(
            row, arrivals=arrivals, first_token_ns=arrivals[0], last_token_ns=arrivals[-1], end_ns=arrivals[-1]
        )

    return run.with_rows(change)


def with_gauges(run: SyntheticRun, **gauges: tuple[float, float]) -> SyntheticRun:
    """Series by `source__series` with `_` for `.`, each from one value to another over the hold, once a second."""
    rows = []
    for visit in run.run.visits:
        step = visit.steps[0]
        for second in range(HOLD_S):
            for name, (first, last) in gauges.items():
                source, series = name.split("__")
                value = first + (last - first) * second / (HOLD_S - 1)
                source = source if source == "host" else f"{visit.topology}/{source}"
                rows.append(
                    (
                        step.hold_start_ns + second * NS_PER_S,
                        source,
                        NAMES.get(series, series.replace("_", ".", 1)),
                        "",
                        value,
                    )
                )
    return replace(run, telemetry_rows=tuple(rows))


def soaked(run: SyntheticRun, *, valid: bool = True, gpu_memory_bytes: float | None = None) -> Soak:
    findings = () if valid else (Finding.invalid("workers", "a worker was lost"),)
    judged = []
    for visit in run.run.visits:
        own = run.samples.take(np.flatnonzero((run.samples.requests["visit"] == visit.visit).to_numpy(dtype=bool)))
        judged += [JudgedStep(step=step, findings=findings) for step in measure_visit(visit, own, run.telemetry, None)]
    told = soak(judged, run.samples, run.telemetry, gpu_memory_bytes=gpu_memory_bytes, topologies=1)
    assert told is not None
    return told


def warned(told: Soak) -> dict[str, str]:
    return {finding.id: finding.message for finding in told.findings if finding.severity is Severity.WARNING}


def test_nothing_is_claimed_of_a_server_that_stays_as_it_is() -> None:
    for seed in range(6):
        told = soaked(steady(seed))
        assert told.claims == {}
        assert warned(told) == {}


def test_every_series_has_a_value_for_each_window_and_its_level_is_the_servers() -> None:
    told = soaked(steady())
    assert len(told.time_s) == 22  # 2,800 requests / (100 for a p99 × 1.25)
    assert {len(one.values) for one in told.series.values()} == {22}
    assert told.time_s[0] == pytest.approx(1 + HOLD_S / 22 / 2)  # a warm-up of 1 s, and half a window
    assert told.series["ttft_ms.p50"].level == pytest.approx(100, rel=0.02)
    assert told.series["in_flight"].level == pytest.approx(4, rel=0.02)
    assert told.series["output_tokens_per_s"].level == pytest.approx(4 * 8 / 0.171, rel=0.03)
    assert told.series["error_rate"].level == 0


def test_a_planted_drift_is_found_with_its_size_in_every_percentile() -> None:
    told = soaked(slower(steady(), 1.3))
    for metric, level in (("ttft_ms", 100), ("itl_ms", 10)):
        one = told.series[f"{metric}.p50"]
        assert one.claim == "rises"
        drift = one.drift_per_hour
        assert drift.low is not None
        assert drift.high is not None
        assert drift.low <= 0.3 * level * PER_HOUR <= drift.high  # 30 % over the hold
        assert one.drift_share == pytest.approx(0.3 / 1.15, rel=0.1)  # of the mean, which is 15 % above the start
    assert {"ttft_ms.p90", "ttft_ms.p99", "e2e_ms.p50", "tpot_ms.p50"} <= told.claims.keys()
    assert "TTFT p50 rises by" in warned(told)["soak.drift.ttft_ms.p50"]


def test_getting_faster_is_a_warm_up_that_was_not_over() -> None:
    told = soaked(slower(steady(), 0.7))
    assert told.claims["ttft_ms.p50"] == "falls"
    assert "soak.drift.ttft_ms.p50" not in warned(told)
    settling = next(finding for finding in told.findings if finding.id == "soak.settling.ttft_ms.p50")
    assert "warmup_s" in settling.message


def test_a_drift_too_small_to_matter_is_told_and_not_claimed() -> None:
    one = soaked(with_gauges(steady(), engine0__engine_kv_usage=(0.5, 0.5001))).series["kv_usage"]
    assert one.drift_per_hour.value == pytest.approx(0.0001 * PER_HOUR, rel=0.05)
    assert one.claim is None


def test_errors_that_grow_are_a_drift() -> None:
    run = steady()
    told = soaked(run.with_rows(lambda row: failed(row) if row.index % 20 < 4 * hold_share(run, row) else row))
    assert told.claims["error_rate"] == "rises"
    assert told.series["error_rate"].values[-1] == pytest.approx(4 / 20, abs=0.05)  # one to four of 20


def test_a_growing_queue_says_that_the_load_may_be_too_much() -> None:
    told = soaked(with_gauges(steady(), engine0__engine_requests_waiting=(0, 20)))
    assert told.claims["requests_waiting"] == "rises"
    assert {"soak.overload", "soak.drift.requests_waiting"} <= warned(told).keys()


def test_a_leak_on_one_gpu_is_found_with_the_hours_it_leaves() -> None:
    run = with_gauges(
        steady(),
        gpu0__gpu_memory_used_bytes=(60 * GIB, 60 * GIB),
        gpu1__gpu_memory_used_bytes=(60 * GIB, 61 * GIB),
    )
    told = soaked(run, gpu_memory_bytes=80 * GIB)
    one = told.series["gpu_memory_bytes"]
    assert one.claim == "rises"
    assert one.drift_per_hour.value == pytest.approx(GIB * PER_HOUR, rel=0.05)  # 1 GiB over the hold
    assert one.hours_until_full is not None
    assert one.hours_until_full.value == pytest.approx(19 / PER_HOUR, rel=0.05)  # 80 - 61 GiB, on that GPU
    assert "leak" in warned(told)["soak.drift.gpu_memory_bytes"]


def test_what_the_driver_says_of_a_gpus_memory_counts_more_than_the_catalogue() -> None:
    run = with_gauges(
        steady(),
        gpu0__gpu_memory_used_bytes=(60 * GIB, 61 * GIB),
        gpu0__gpu_memory_total_bytes=(71 * GIB, 71 * GIB),
    )
    hours = soaked(run, gpu_memory_bytes=80 * GIB).series["gpu_memory_bytes"].hours_until_full
    assert hours is not None
    assert hours.value == pytest.approx(10 / PER_HOUR, rel=0.05)  # 71 - 61 GiB


def test_a_leaking_process_fills_what_its_host_has_left() -> None:
    run = with_gauges(
        steady(),
        engine0__process_memory_bytes=(4 * GIB, 6 * GIB),
        engine1__process_memory_bytes=(4 * GIB, 4 * GIB),
        host__host_memory_available_bytes=(40 * GIB, 30 * GIB),
    )
    one = soaked(run).series["engine_memory_bytes"]
    assert (one.claim, one.values[0]) == ("rises", pytest.approx(8 * GIB, rel=0.01))
    assert one.hours_until_full is not None
    assert one.hours_until_full.value == pytest.approx(15 / PER_HOUR, rel=0.05)  # 30 GiB left, 2 GiB a hold


def test_a_memory_that_stays_is_no_leak_and_has_no_hours() -> None:
    told = soaked(with_gauges(steady(), gpu0__gpu_memory_used_bytes=(60 * GIB, 60 * GIB)), gpu_memory_bytes=80 * GIB)
    one = told.series["gpu_memory_bytes"]
    assert (one.claim, one.drift_per_hour.value) == (None, 0)
    assert one.hours_until_full is not None
    assert one.hours_until_full.value is None


def test_a_percentile_without_enough_requests_in_a_window_says_so() -> None:
    few = simulate(SERVERS, plan(steps=[1]))  # 700 requests: too few for 12 windows with a p99
    told = soaked(few)
    assert told.series["ttft_ms.p99"].drift_per_hour.value is None
    assert told.series["ttft_ms.p99"].drift_per_hour.findings[0].id == "soak.windows"
    assert told.series["ttft_ms.p90"].drift_per_hour.value is not None
    assert told.series["itl_ms.p99"].drift_per_hour.value is not None  # gaps there are enough of


def test_a_short_hold_and_an_unknown_memory_are_told() -> None:
    assert {finding.id for finding in soaked(steady()).findings} == {"soak.short", "soak.memory_unknown"}


def test_repeats_are_pooled_and_what_differs_between_them_widens_the_interval() -> None:
    run = simulate(SERVERS, plan(repeats=2))
    once = slower(run, 1.3)
    mixed = replace(run, rows=tuple(a if a.visit == 0 else b for a, b in zip(once.rows, run.rows, strict=True)))
    both, one = soaked(once), soaked(mixed)
    assert (both.repeats, both.claims["ttft_ms.p50"]) == (2, "rises")
    assert "ttft_ms.p50" not in one.claims
    assert one.series["ttft_ms.p50"].drift_per_hour.value == pytest.approx(0.15 * 100 * PER_HOUR, rel=0.15)


def test_an_invalid_soak_is_shown_and_called_so() -> None:
    assert not soaked(steady(), valid=False).valid


def test_nothing_is_told_of_a_topology_that_was_never_measured() -> None:
    run = steady()
    assert soak([], run.samples, run.telemetry, gpu_memory_bytes=None, topologies=1) is None
