from pathlib import Path

import pytest

from loadstair.errors import UsageError
from loadstair.explore.rows import header, row
from loadstair.explore.spool import Spool
from loadstair.samples.record import Outcome
from tests.explore.records import SENT_NS, record


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
    assert len("".join(reader)) < 2_000_000
    assert "".join(spool.csv()) == header()
    spool.close()


def test_a_file_of_ones_own_is_kept_and_not_limited(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    spool = Spool(path, bytes_max=1)
    spool.append("one\n")
    spool.close()
    assert path.read_text() == header() + "one\n"


def test_a_path_that_cannot_be_written_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--records: .*/missing/r.csv: No such file or directory$"):
        Spool(tmp_path / "missing" / "r.csv")


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
