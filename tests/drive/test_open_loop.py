"""An open loop against the simulated engine's own account: what came, how often, and when."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.staircase import climb, in_order
from loadstair.plan.arrivals import Arrivals, Trace, schedule
from loadstair.plan.model import ArrivalKind, Lengths, Load, LoadMode, Workload
from loadstair.samples.runrecord import StepRecord
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from loadstair.topology.endpoint import Endpoint
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.drive.test_session import Notes
from tests.explore.headless import engine

MODEL = "Qwen/Qwen2.5-32B-Instruct"
SEED = 5
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    rows: list[dict[str, Any]]
    ledger: dict[str, LedgerEntry]
    ledger_entries: int
    steps: tuple[StepRecord, ...]


def measured(folder: Path, arrivals: Arrivals, *options: str, **load: Any) -> Measured:
    plan_load = Load(
        **{"mode": LoadMode.OPEN, "steps": (20.0, 60.0), "warmup_s": 0.5, "warmup_s_max": 0.5, "hold_s": 4.0, **load}
    )
    notes = Notes()
    with engine(folder, *options) as server:
        visit_load = VisitLoad(
            visit=0,
            topology="sim",
            repeat=0,
            seed=SEED,
            workload=Workload(model=MODEL, input_tokens=Lengths(mean=50), output_tokens=Lengths(mean=6, cv=0.2)),
            load=plan_load,
            endpoint=Endpoint(url=f"{server.url}/v1", replicas=()),
            calibrate_words=False,
            arrivals=arrivals,
        )
        with LoadSession(visit_load, workers=2, log_dir=folder) as session:
            steps, drained = climb(session, in_order(plan_load.steps), plan_load, notes.hooks)
    assert drained
    entries = list(read_ledger(server.ledger))
    return Measured(
        rows=notes.rows(),
        ledger={entry.request_id: entry for entry in entries},
        ledger_entries=len(entries),
        steps=steps,
    )


BY_GAMMA = Arrivals(kind=ArrivalKind.GAMMA, burstiness=0.3)
BY_POISSON = Arrivals(kind=ArrivalKind.POISSON)


@pytest.fixture(scope="module")
def poisson(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measured(tmp_path_factory.mktemp("poisson"), BY_POISSON)


@pytest.fixture(scope="module")
def gamma(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measured(tmp_path_factory.mktemp("gamma"), BY_GAMMA, steps=(80.0,))


@pytest.fixture(params=["poisson", "gamma"])
def run(request: pytest.FixtureRequest) -> Measured:
    told: Measured = request.getfixturevalue(request.param)
    return told


def test_every_request_of_the_schedule_reaches_the_engine_exactly_once(run: Measured) -> None:
    assert {row["request_id"] for row in run.rows} == set(run.ledger)
    assert len(run.rows) == len(run.ledger) == run.ledger_entries
    for record in run.steps:
        places = sorted(row["index"] for row in run.rows if row["step"] == record.step)
        assert places == list(range(len(places)))
        assert {row["worker"] for row in run.rows if row["step"] == record.step} == {"worker-0", "worker-1"}


def test_the_books_add_up(run: Measured) -> None:
    for record in run.steps:
        books = record.counters
        count = sum(row["step"] == record.step for row in run.rows)
        assert books.scheduled == books.started == books.ok + books.failed + books.killed == count > 0
        assert books.held_back == 0


def test_each_request_is_due_as_the_one_seeded_schedule_says(poisson: Measured) -> None:
    for record in poisson.steps:
        rows = sorted((row for row in poisson.rows if row["step"] == record.step), key=lambda row: row["index"])
        planned = islice(schedule(BY_POISSON, rate=record.load, seed=SEED, repeat=0, step=record.step), len(rows))
        begun_ns = {row["due_ns"] - due.offset_ns for row, due in zip(rows, planned, strict=True)}
        assert len(begun_ns) == 1
        assert all(row["due_ns"] <= row["dispatch_ns"] <= row["sent_ns"] for row in rows)


def received_gaps_s(run: Measured, step: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    ids = [row["request_id"] for row in run.rows if row["step"] == step]
    return np.diff(np.sort([run.ledger[request_id].received_ns for request_id in ids])) / NS_PER_S


def test_what_the_engine_received_has_the_gaps_of_a_poisson_process(poisson: Measured) -> None:
    gaps = received_gaps_s(poisson, 1)
    assert len(gaps) > 200
    assert stats.kstest(gaps, stats.expon(scale=1 / 60).cdf).pvalue > 0.001
    assert stats.kstest(gaps, stats.gamma(0.3, scale=1 / (60 * 0.3)).cdf).pvalue < 1e-6


def test_what_the_engine_received_has_the_gaps_of_the_plans_burstiness(gamma: Measured) -> None:
    gaps = received_gaps_s(gamma, 0)
    assert len(gaps) > 200
    # Shorter gaps than the engine and two processes can keep apart are left out of both sides.
    least_s = 0.005
    law = stats.gamma(0.3, scale=1 / (80 * 0.3))
    kept = gaps[gaps > least_s]

    def cdf(gap_s: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        return (law.cdf(gap_s) - law.cdf(least_s)) / law.sf(least_s)

    assert stats.kstest(kept, cdf).pvalue > 0.001
    assert stats.kstest(gaps, stats.expon(scale=1 / 80).cdf).pvalue < 1e-6


def test_an_in_flight_limit_delays_requests_and_loses_none(tmp_path: Path) -> None:
    run = measured(tmp_path, BY_POISSON, "--max-num-seqs", "64", steps=(60.0,), hold_s=2.0, max_in_flight=2)
    books = run.steps[0].counters
    assert books.scheduled == books.started == books.ok == len(run.ledger)
    assert books.held_back > 0
    spans = [(run.ledger[row["request_id"]].received_ns, row["end_ns"]) for row in run.rows]
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) <= 2
    waited_ms = [(row["dispatch_ns"] - row["due_ns"]) / NS_PER_MS for row in run.rows]
    assert max(waited_ms) > 50


def test_a_traces_lengths_reach_the_engine(tmp_path: Path) -> None:
    inputs, outputs = (40, 60, 80, 100), (3, 4, 5, 6)
    trace = Trace(offsets_s=(0.0, 0.2, 0.3, 1.0), input_tokens=inputs, output_tokens=outputs)
    run = measured(tmp_path, Arrivals(kind=ArrivalKind.TRACE, trace=trace), steps=(20.0,), hold_s=1.0)
    for row in run.rows:
        entry = run.ledger[row["request_id"]]
        place = row["index"] % 4
        assert (entry.input_tokens, entry.output_tokens) == (inputs[place], outputs[place])
