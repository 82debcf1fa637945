import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadstair.errors import UsageError
from loadstair.explore.rows import header, row
from loadstair.explore.spool import Spool
from loadstair.samples.record import Outcome
from tests.samples.records import SENT_NS, record


def test_it_gives_back_what_it_was_given_in_whole_lines() -> None:
    spool = Spool()
    lines = [f"{number},{'x' * (number % 700)}é\n" for number in range(3000)]
    for line in lines:
        spool.append(line)
    pieces = list(spool.csv())
    spool.close()
    assert len(pieces) > 1
    assert all(piece.endswith("\n") for piece in pieces)
    assert "".join(pieces) == header() + "".join(lines)


def test_a_full_one_says_so_and_keeps_what_it_has() -> None:
    spool = Spool(bytes_max=len(header()) + 10)
    spool.append("12345678\n")
    spool.append("12345678\n")
    spool.append("1\n")
    assert spool.stopped is not None
    assert "--records" in spool.stopped
    assert "".join(spool.csv()) == header() + "12345678\n"
    spool.close()


def test_a_reader_sees_an_end_when_a_new_test_begins() -> None:
    spool = Spool()
    spool.append(("x" * 1000 + "\n") * 2000)
    reader = spool.csv()
    next(reader)
    spool.begin()
    assert "".join(spool.csv()) == header()
    spool.append(("y" * 999 + "\n") * 3000)
    assert list(reader) == []
    assert "".join(spool.csv()) == header() + ("y" * 999 + "\n") * 3000
    spool.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond it is cut there, and the next one refused: as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("own", [True, False])
def test_a_disk_that_is_full_ends_the_records_after_a_whole_line(tmp_path: Path, own: bool) -> None:
    path = tmp_path / "records.csv"
    spool = Spool(path if own else None)
    with files_of_at_most(len(header()) + 12):
        spool.append("12345678\n")
        spool.append("12345678\n")
        spool.append("1\n")
        kept, stopped = "".join(spool.csv()), spool.stopped
        in_file = path.read_text() if own else kept
    spool.close()
    assert kept == in_file == header() + "12345678\n"
    assert stopped == "the raw records end here: File too large"


def test_on_a_full_disk_a_new_test_begins_without_records_and_the_next_one_has_them_again() -> None:
    spool = Spool()
    spool.append("old\n")
    with files_of_at_most(len(header()) // 2):
        spool.begin()
        spool.append("lost\n")
        assert "".join(spool.csv()) == ""
        assert spool.stopped is not None
        Spool().close()  # a process that starts now goes on without records, too
    spool.begin()
    spool.append("new\n")
    assert (spool.stopped, "".join(spool.csv())) == (None, header() + "new\n")
    spool.close()


def test_closing_after_a_full_disk_is_quiet(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records.csv")
    with files_of_at_most(len(header())):
        spool.append("lost\n")
        spool.close()
    assert (tmp_path / "records.csv").read_text() == header()


def test_a_file_of_ones_own_is_kept_and_not_limited(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    spool = Spool(path, bytes_max=1)
    spool.append("one\n")
    spool.close()
    assert path.read_text() == header() + "one\n"


def test_a_path_that_cannot_be_written_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--records: .*/missing/r.csv: No such file or directory$"):
        Spool(tmp_path / "missing" / "r.csv")
    with pytest.raises(UsageError, match=r"^--records: /dev/full: .*: No space left on device$"):
        Spool(Path("/dev/full"))


def test_a_row_has_a_cell_for_each_column_and_nothing_where_nothing_was_seen() -> None:
    whole = row(record(100, 130, chunk_tokens=[1, 2], output_tokens=3), name="chat", worker="worker-1")
    cells = dict(zip(header().strip().split(","), whole.strip().split(","), strict=True))
    assert (cells["ttft_ms"], cells["tpot_ms"], cells["e2e_ms"]) == ("100.000000", "15.000000", "130.000000")
    assert cells["arrivals_since_sent_ns"] == "100000000 130000000"
    assert cells["chunk_tokens"] == "1 2"
    assert (cells["sent_ns"], cells["error"]) == (str(SENT_NS), "")
    assert header().count(",") == row(record(), name="a", worker="b").count(",")


def test_text_of_a_server_is_no_formula() -> None:
    evil = record(outcome=Outcome.HTTP_ERROR, error="=HYPERLINK(1)", upstream="@x", finish_reason='a,b"c')
    line = row(evil, name="chat", worker="worker-0")
    assert "'=HYPERLINK(1)" in line
    assert ",'@x," in line
    assert '"a,b""c"' in line


def test_a_row_is_one_line_whatever_its_cells_hold() -> None:
    line = row(record(finish_reason="a\r\n=b"), name="two\nlines", worker="worker-0")
    assert line.count("\n") == 1
    assert line.startswith("two lines,worker-0,")
    assert ",a  =b," in line
