"""Records that a worker could not hand over, because it or its master died: from the worker's spool into the run.

A record that is there already is not added again, so a spool can be given as often as one likes.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from loadstair.drive.spools import SpoolContent, read_spool
from loadstair.errors import UsageError
from loadstair.journal import Journal
from loadstair.samples.record import Outcome
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import StepRecord, VisitRecord


def recover(folder: RunFolder, journal: Journal, paths: Iterable[Path]) -> int:
    """Adds what these spools hold and the run has not, with the counters of its steps; returns how many records those
    are. The files are removed when all of it is on disk.

    Raises UsageError where one is no spool of this run, before anything is changed, and StorageError.
    """
    paths = list(paths)
    contents = [content for path in paths if (content := read_spool(path)) is not None]
    for content in contents:
        _refuse_of_another_run(folder, content)
    added = sum(_add(folder, journal, content) for content in contents)
    for path in paths:
        path.unlink(missing_ok=True)
    return added


def _refuse_of_another_run(folder: RunFolder, content: SpoolContent) -> None:
    path = folder.log_path / f"load-{content.visit}.json"
    try:
        nonce = json.loads(path.read_text(encoding="utf-8"))["nonce"]
    except (OSError, ValueError, KeyError, TypeError):
        nonce = None
    if nonce != content.nonce:
        raise UsageError(f"{content.path}: holds records of another run than {folder.path}, by the number of its visit")


def _add(folder: RunFolder, journal: Journal, content: SpoolContent) -> int:
    before = folder.read_books(content.visit)
    known = before["request_id"].combine_chunks()
    table = content.table.filter(pc.invert(pc.is_in(content.table["request_id"], value_set=known)))
    added: int = table.num_rows
    if added:
        folder.write_samples(content.visit, folder.next_part(content.visit), table)
        for visit in journal.record.visits:
            if visit.visit == content.visit:
                journal.visit(_recounted(visit, table, before, content))
    return added


def _recounted(visit: VisitRecord, added: pa.Table, before: pa.Table, content: SpoolContent) -> VisitRecord:
    """`before`: what was there of the visit, `added` what came to it."""
    was_lost = any(content.worker in step.workers_lost for step in visit.steps)
    new = Counter(zip(added["step"].to_pylist(), added["outcome"].to_pylist(), strict=True))
    there: Counter[tuple[int, str]] = Counter()
    for table in (before, added):
        there.update(zip(table["step"].to_pylist(), table["worker"].to_pylist(), strict=True))
    steps = []
    for step in visit.steps:
        outcomes = Counter({outcome: count for (number, outcome), count in new.items() if number == step.step})
        still_lost = content.counters.get(step.step, {}).get("started", 0) - there[step.step, content.worker]
        steps.append(_with_counters(step, outcomes, still_lost if was_lost else None) if outcomes else step)
    return replace(visit, steps=tuple(steps))


def _with_counters(step: StepRecord, added: "Counter[str]", still_lost: int | None) -> StepRecord:
    """`still_lost`: what the lost worker's own books say that it had begun and did not record: the master may never
    have heard of it. None: these records are no lost worker's, but were under way when the run broke off."""
    books = step.counters
    ok, killed = books.ok + added[Outcome.OK], books.killed + added[Outcome.KILLED]
    failed = books.failed + added.total() - added[Outcome.OK] - added[Outcome.KILLED]
    under_way = books.started - books.ok - books.failed - books.killed - books.lost
    if still_lost is None:
        lost, under_way = books.lost, max(under_way - added.total(), 0)
    else:
        lost = max(books.lost - added.total(), still_lost, 0)
    started = ok + failed + killed + lost + under_way
    scheduled = books.scheduled + started - books.started if books.scheduled else 0
    return replace(
        step,
        counters=replace(books, started=started, ok=ok, failed=failed, killed=killed, scheduled=scheduled, lost=lost),
    )
