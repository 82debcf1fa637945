from pathlib import Path

import pytest

from loadstair.samples.record import Outcome
from tests.fuzz.invariants import LONG_COMMENT, check, decode, encode
from tests.fuzz.seeds import STREAMS, seeds

CORPUS = Path(__file__).parent / "corpus"

OUTCOMES = {
    "vllm_engine_dead": (Outcome.STREAM_ERROR, 1),
    "vllm_old_error": (Outcome.STREAM_ERROR, 0),
    "llamacpp_error_field": (Outcome.STREAM_ERROR, 0),
    "tgi_error": (Outcome.STREAM_ERROR, 0),
    "error_event": (Outcome.STREAM_ERROR, 0),
    "odd": (Outcome.MALFORMED, 0),
    "html": (Outcome.MALFORMED, 0),
}
"""And how many chunks carried output; every other stream is whole and carries some."""


def test_a_plan_for_the_arrivals_can_be_written_down() -> None:
    assert decode(encode(b"abcdef", [2, 4], 7)) == ([b"ab", b"cd", b"ef"], 8)
    assert decode(encode(b"abc", [1], 7, long=True)) == ([LONG_COMMENT, b"a", b"bc"], 8)
    assert decode(b"") == ([], 1)


@pytest.mark.parametrize("name", STREAMS)
def test_the_streams_of_real_servers_are_understood_however_they_are_cut(name: str) -> None:
    whole, cut = check(seeds()[name]), check(seeds()[f"{name}_cut"])
    assert (whole.outcome, len(whole.arrivals)) == (cut.outcome, len(cut.arrivals))
    if name in OUTCOMES:
        assert (whole.outcome, len(whole.arrivals)) == OUTCOMES[name]
    else:
        assert whole.outcome is Outcome.OK
        assert len(whole.arrivals) > 0


def test_nothing_that_fuzzing_found_breaks_an_invariant() -> None:
    inputs = sorted(CORPUS.iterdir())
    outcomes = {check(path.read_bytes()).outcome for path in inputs}
    assert outcomes == {Outcome.OK, Outcome.TRUNCATED, Outcome.STREAM_ERROR, Outcome.MALFORMED}
