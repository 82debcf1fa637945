"""The ledger: what is written is what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.errors import StorageError
from loadstair.simserver.ledger import LedgerEntry, LedgerWriter, read_ledger


def entry(request_id: str = "r", write_ns: tuple[int, ...] = (1_700_000_000_000_000_000, 1_700_000_000_000_000_250)):
    return LedgerEntry(
        request_id=request_id, received_ns=5, input_tokens=2, output_tokens=2, finish="length", write_ns=write_ns
    )


def test_write_times_are_stored_as_differences(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with LedgerWriter(path) as ledger:
        ledger.write(entry())
    assert '"write_ns":[1700000000000000000,250]' in path.read_text()


@given(stamps=st.lists(st.integers(0, 2**62)))
def test_reading_gives_back_what_was_written(tmp_path_factory, stamps):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    written = [entry("a", tuple(stamps)), entry("b", ())]
    with LedgerWriter(path) as ledger:
        for one in written:
            ledger.write(one)
    assert read_ledger(path) == written


def test_a_last_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with LedgerWriter(path) as ledger:
        ledger.write(entry("a"))
        ledger.write(entry("b"))
    path.write_text(path.read_text()[:-10])
    assert [one.request_id for one in read_ledger(path)] == ["a"]


def test_any_other_broken_line_is_named(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text("{}\nnot json\n")
    with pytest.raises(ValueError, match="line 1 is no ledger entry"):
        read_ledger(path)


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="cannot write the ledger: No such file or directory"):
        LedgerWriter(tmp_path / "missing" / "ledger.jsonl")
