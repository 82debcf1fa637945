"""The folder of a run: whole files or none, and what is written reads back the same."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from loadstair.errors import StorageError, UsageError
from loadstair.samples.frame import REQUEST_SCHEMA
from loadstair.samples.run_folder import RunFolder
from loadstair.samples.runrecord import Counters, Ending, RunRecord, ServerCounters, StepRecord, VisitRecord
from loadstair.samples.table import SAMPLE_SCHEMA, TELEMETRY_SCHEMA

STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

STEP = StepRecord(
    step=0,
    load=4.0,
    start_ns=1,
    hold_start_ns=2,
    hold_end_ns=3,
    tail_end_ns=4,
    tail_complete=True,
    workers=("w0",),
    workers_lost=(),
    counters=Counters(started=5, ok=4, failed=1, killed=0),
)
VISIT = VisitRecord(
    visit=0,
    topology="tp4",
    repeat=0,
    steps=(STEP,),
    server_before=ServerCounters(requests_finished=0.0, output_tokens=0.0, input_tokens=None),
    server_after=None,
    drained=True,
)
RUN = RunRecord(
    name="demo",
    started="2026-03-04T05:06:07+00:00",
    loadstair_version="0",
    command="loadstair run demo.yaml",
    quick=False,
    seed=7,
    versions={"locust": "2"},
    host={"cpus": 2},
    topologies={"tp4": {"kind": "simulated"}},
    visits=(VISIT,),
    ending=Ending.COMPLETE,
    warnings=("a", "b"),
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "demo", STARTED)


def test_the_folder_is_named_for_the_plan_and_the_time(folder: RunFolder) -> None:
    assert folder.path.name == "demo-20260304-050607"


def test_two_runs_in_one_second_get_two_folders(folder: RunFolder) -> None:
    assert RunFolder.create(folder.path.parent, "demo", STARTED).path.name == "demo-20260304-050607-2"


def test_a_run_record_reads_back_the_same(folder: RunFolder) -> None:
    folder.write_run(RUN)
    assert folder.read_run() == RUN


def test_samples_read_back_in_the_order_they_were_written(folder: RunFolder) -> None:
    for visit, part in ((1, 0), (0, 1), (0, 0)):
        row = dict.fromkeys(SAMPLE_SCHEMA.names) | {
            "request_id": f"{visit}-{part}", "visit": visit, "topology": "t", "repeat": 0, "step": 0, "load": 1.0,
            "phase": "hold", "worker": "w", "index": 0, "dispatch_ns": 1, "end_ns": 2, "arrivals": [1],
            "output_tokens_asked": 1, "input_tokens_asked": 1, "outcome": "ok", "bunched": 0, "bunched_late": 0,
            "clock": "kernel", "clock_step": False,
        }  # fmt: skip
        folder.write_samples(visit, part, pa.Table.from_pylist([row], SAMPLE_SCHEMA))
    samples, damaged = folder.read_samples()
    assert samples.requests["request_id"].tolist() == ["0-0", "0-1", "1-0"]
    assert samples.arrivals_ns.tolist() == [1, 1, 1]
    assert damaged == []


def test_a_file_from_before_a_column_that_may_be_absent_is_read_with_that_absent(folder: RunFolder) -> None:
    folder.write_samples(0, 0, SAMPLE_SCHEMA.empty_table().drop_columns(["dns_ns", "tls_ns"]))
    folder.write_samples(0, 1, SAMPLE_SCHEMA.empty_table().drop_columns(["end_ns"]))
    samples, damaged = folder.read_samples()
    assert samples.requests.columns.tolist() == REQUEST_SCHEMA.names
    assert [line.rpartition(": ")[2] for line in damaged] == ["lacks the columns end_ns"]


def test_a_damaged_file_costs_its_own_rows_only(folder: RunFolder) -> None:
    folder.write_samples(0, 0, SAMPLE_SCHEMA.empty_table())
    folder.write_samples(0, 1, SAMPLE_SCHEMA.empty_table())
    broken = folder.samples_path / "visit000-part000.parquet"
    broken.write_bytes(broken.read_bytes()[:50])
    _, damaged = folder.read_samples()
    assert [line.split(":")[0] for line in damaged] == [str(broken)]


def test_an_output_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a run folder cannot be made there") as caught:
        RunFolder.create(tmp_path / "file" / "below", "demo", STARTED)
    assert caught.value.exit_code == 2


def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(folder: RunFolder) -> None:
    folder.write_text(folder.plan_path, "old")
    full = folder.path / ".plan.yaml.partial"
    full.symlink_to("/dev/full")  # every write to it fails with "no space left on device"
    with pytest.raises(StorageError, match="the disk is full") as caught:
        folder.write_text(folder.plan_path, "new")
    assert caught.value.exit_code == 3
    assert folder.plan_path.read_text() == "old"
    assert not full.is_symlink()


@pytest.mark.parametrize("name", ["run.json", "visit000-part000.parquet", "telemetry.parquet"])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_write_is_over(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor: int) -> None:
        done.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def seen_replace(old: Path, new: Path) -> None:
        done.append(("rename", new.name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    match name:
        case "run.json":
            folder.write_run(RUN)
        case "telemetry.parquet":
            folder.write_telemetry(TELEMETRY_SCHEMA.empty_table())
        case _:
            folder.write_samples(0, 0, SAMPLE_SCHEMA.empty_table())
    holds_it = folder.samples_path if name.startswith("visit") else folder.path
    assert done == [("fsync", f".{name}.partial"), ("rename", name), ("fsync", holds_it.name)]


def test_half_a_file_that_cannot_be_removed_is_a_storage_error(folder: RunFolder) -> None:
    stuck = folder.samples_path / ".visit000-part000.parquet.partial"
    stuck.mkdir()  # a folder is not unlinked, whoever asks: root is not stopped by a mode
    with pytest.raises(StorageError, match=f"{stuck}: cannot be removed") as caught:
        folder.remove_partial_files()
    assert caught.value.exit_code == 3


def test_a_run_folder_has_one_writer_at_a_time(folder: RunFolder) -> None:
    with folder.reserved(), pytest.raises(UsageError, match="another process is still measuring"), folder.reserved():
        pass
    with folder.reserved():
        pass


def test_nothing_that_is_not_a_number_is_written_as_json(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json(folder.summary_path, {"value": float("nan")})
    assert not folder.summary_path.exists()


def test_a_folder_without_a_run_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"seed": "abc"}, "seed"), ({"visits": 3}, "visits"), ({"ending": "never"}, "ending")],
)
def test_a_damaged_run_record_is_one_line_that_says_where(
    folder: RunFolder, changes: dict[str, object], where: str
) -> None:
    folder.write_run(RUN)
    folder.run_path.write_text(json.dumps(json.loads(folder.run_path.read_text()) | changes))
    with pytest.raises(UsageError, match=f"run.json: damaged: {where}"):
        folder.read_run()


def test_a_run_of_another_schema_is_refused(folder: RunFolder) -> None:
    folder.write_run(RUN)
    folder.run_path.write_text(json.dumps(json.loads(folder.run_path.read_text()) | {"schema": 99}))
    with pytest.raises(UsageError, match="schema 99; this version reads 1"):
        folder.read_run()
