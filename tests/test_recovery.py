"""Records from a lost worker's spool: each is added once, and the books of its steps still add up."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import msgpack
import pyarrow as pa
import pytest

from loadstair.drive.batches import table_of_rows
from loadstair.errors import UsageError
from loadstair.journal import Journal
from loadstair.load.config import LoadConfig
from loadstair.load.recorder import packed_row
from loadstair.load.spool import Spool
from loadstair.recovery import recover
from loadstair.samples.record import Outcome
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Counters
from tests.load.test_spool import CONFIG
from tests.samples.records import record
from tests.samples.test_run_folder import RUN, STEP, VISIT

VISIT_NUMBER = CONFIG.visit


def row(request_id: str, worker: str, outcome: Outcome = Outcome.OK, step: int = 0) -> list[object]:
    return packed_row(
        record(5, 9, request_id=request_id, worker=worker, outcome=outcome, step=step, visit=VISIT_NUMBER)
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of step 0 worker-0 has recorded a, and worker-1 b: both are on disk."""
    folder = RunFolder.create(tmp_path, "demo", datetime(2026, 3, 4, tzinfo=UTC))
    (folder.log_path / f"load-{VISIT_NUMBER}.json").write_text(json.dumps({"nonce": CONFIG.nonce}))
    folder.write_samples(VISIT_NUMBER, 0, table_of_rows([row("a", "worker-0"), row("b", "worker-1")]))
    return folder


def journal(folder: RunFolder, *, lost: tuple[str, ...], counters: Counters) -> Journal:
    step = dataclasses.replace(STEP, workers=("worker-0", "worker-1"), workers_lost=lost, counters=counters)
    visit = dataclasses.replace(VISIT, visit=VISIT_NUMBER, steps=(step,))
    return Journal(folder, dataclasses.replace(RUN, visits=(visit,)))


def spooled(folder: RunFolder, rows: list[list[object]], started: int, config: LoadConfig = CONFIG) -> Path:
    """By worker-1, which had begun so many requests in step 0."""
    spool = Spool(config, folder.log_path)
    spool.append(1, {0: {"started": started}}, msgpack.packb({"worker": "worker-1", "records": rows}), len(rows))
    assert spool.path is not None
    return spool.path


def books(kept: Journal) -> Counters:
    return kept.record.visits[0].steps[0].counters


def test_what_a_lost_worker_recorded_is_no_longer_lost(folder: RunFolder) -> None:
    """The master had heard of 3 requests of worker-1, one of them recorded: it lost 2. Its own books know 5."""
    kept = journal(folder, lost=("worker-1",), counters=Counters(started=4, ok=2, failed=0, killed=0, lost=2))
    path = spooled(folder, [row("b", "worker-1"), row("c", "worker-1"), row("d", "worker-1", Outcome.TIMEOUT)], 5)
    assert recover(folder, kept, [path]) == 2
    assert books(kept) == Counters(started=6, ok=3, failed=1, killed=0, lost=2)
    ids = folder.read_books(VISIT_NUMBER)["request_id"].to_pylist()
    assert sorted(ids) == ["a", "b", "c", "d"]
    assert not path.exists()
    assert folder.read_run().visits == kept.record.visits


def test_requests_under_way_when_the_run_broke_off_get_their_end(folder: RunFolder) -> None:
    kept = journal(folder, lost=(), counters=Counters(started=4, ok=2, failed=0, killed=0))
    path = spooled(folder, [row("c", "worker-1", Outcome.KILLED), row("e", "worker-1", step=1)], 3)
    assert recover(folder, kept, [path]) == 2
    assert books(kept) == Counters(started=4, ok=2, failed=0, killed=1)


def test_given_twice_it_adds_nothing(folder: RunFolder) -> None:
    kept = journal(folder, lost=("worker-1",), counters=Counters(started=4, ok=2, failed=0, killed=0, lost=2))
    rows = [row("c", "worker-1")]
    recover(folder, kept, [spooled(folder, rows, 3)])
    before = books(kept)
    assert recover(folder, kept, [spooled(folder, rows, 3)]) == 0
    assert books(kept) == before
    assert folder.read_books(VISIT_NUMBER).num_rows == 3


def test_the_schedule_of_an_open_loop_still_adds_up(folder: RunFolder) -> None:
    lost = Counters(started=4, ok=2, failed=0, killed=0, lost=2, scheduled=4)
    kept = journal(folder, lost=("worker-1",), counters=lost)
    recover(folder, kept, [spooled(folder, [row("c", "worker-1")], 5)])
    assert books(kept) == Counters(started=6, ok=3, failed=0, killed=0, lost=3, scheduled=6)


def test_a_spool_of_another_run_is_refused_and_kept(folder: RunFolder) -> None:
    kept = journal(folder, lost=(), counters=Counters(started=2, ok=2, failed=0, killed=0))
    other = spooled(folder, [row("c", "worker-1")], 3, dataclasses.replace(CONFIG, nonce="another"))
    with pytest.raises(UsageError, match="holds records of another run than"):
        recover(folder, kept, [other])
    assert other.exists()
    assert folder.read_books(VISIT_NUMBER).num_rows == 2


def test_a_visit_without_any_record_takes_those_of_its_workers(folder: RunFolder) -> None:
    for path in folder.samples_path.iterdir():
        path.unlink()
    kept = journal(folder, lost=(), counters=Counters(started=0, ok=0, failed=0, killed=0))
    assert recover(folder, kept, [spooled(folder, [row("c", "worker-1", step=3)], 1)]) == 1
    table: pa.Table = folder.read_books(VISIT_NUMBER)
    assert table["request_id"].to_pylist() == ["c"]
