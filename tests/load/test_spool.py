"""A worker's spool holds what only the worker has, and reads back even if the worker was killed while it wrote."""

from pathlib import Path

import msgpack
import pytest

from loadstair.drive.spools import read_spool, spools_in
from loadstair.errors import UsageError
from loadstair.load.config import LoadConfig
from loadstair.load.recorder import packed_row
from loadstair.load.spool import Spool
from loadstair.plan.model import Workload
from tests.samples.records import record

WORKLOAD = Workload.model_validate({"model": "m", "input_tokens": 1, "output_tokens": 1})
CONFIG = LoadConfig(base_url="http://127.0.0.1/v1", workload=WORKLOAD, headers={}, visit=7, nonce="0123456789abcdef")


def filled(folder: Path, batches: int = 3) -> Spool:
    """Two records a batch."""
    spool = Spool(CONFIG, folder)
    for number in range(1, batches + 1):
        rows = [packed_row(record(5, 9, request_id=f"{number}/{place}")) for place in range(2)]
        counters = {4: {"started": 2 * number + 1, "ok": 2 * number}}
        spool.append(number, counters, msgpack.packb({"worker": "worker-1", "records": rows}), len(rows))
    return spool


def test_it_reads_back_as_it_was_written(tmp_path: Path) -> None:
    spool = filled(tmp_path / "made")
    (path,) = spools_in(tmp_path / "made")
    content = read_spool(path)
    assert content is not None
    assert (path, spool.records) == (spool.path, 6)
    assert (content.visit, content.nonce, content.worker) == (7, CONFIG.nonce, "worker-1")
    assert content.table["request_id"].to_pylist() == ["1/0", "1/1", "2/0", "2/1", "3/0", "3/1"]
    assert content.counters == {4: {"started": 7, "ok": 6}}


def test_of_a_worker_that_was_killed_while_it_wrote_the_whole_batches_are_read(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = spools_in(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    content = read_spool(path)
    assert content is not None
    assert content.table["request_id"].to_pylist() == ["1/0", "1/1", "2/0", "2/1"]
    assert content.counters == {4: {"started": 5, "ok": 4}}


def test_it_is_gone_when_all_of_it_is_on_the_orchestrators_disk_and_comes_back_with_the_next_record(
    tmp_path: Path,
) -> None:
    spool = filled(tmp_path)
    spool.forget(2)
    assert len(spools_in(tmp_path)) == 1
    spool.forget(3)
    assert spools_in(tmp_path) == []
    spool.append(4, {}, msgpack.packb({"worker": "worker-1", "records": [packed_row(record(5, request_id="x"))]}), 1)
    content = read_spool(spools_in(tmp_path)[0])
    assert content is not None
    assert content.table["request_id"].to_pylist() == ["x"]


def test_a_disk_that_takes_no_more_ends_the_keeping_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = filled(tmp_path / "file" / "below")
    assert spool.path is None
    assert spool.records == 0
    spool.forget(3)


@pytest.mark.parametrize("data", [b"no spool", b"\x93\x01\x02\x03" * 3, msgpack.packb({"visit": 1}) * 2])
def test_what_is_no_spool_is_refused_in_a_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spool-x.msgpack"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"spool-x\.msgpack: no spool of a Loadstair worker, or damaged"):
        read_spool(path)
