"""A level's records against a ledger: every number is derived by hand."""

from dataclasses import replace

import pytest

from loadstair.calibrate.truth import Schedule, judged_level
from loadstair.samples.calibration import CalibrationLevel
from loadstair.samples.frame import samples_from_tables
from loadstair.samples.record import Outcome, Phase, RequestSample
from loadstair.samples.runrecord import StepRecord
from loadstair.simserver.ledger import LedgerEntry
from loadstair.units import NS_PER_MS, NS_PER_S
from tests.analysis.synthetic import failed, plan_of, saturating, simulate, table_of

TTFT_NS, GAP_NS = 50 * NS_PER_MS, 20 * NS_PER_MS
TOKENS = 48
SERVICE_NS = TTFT_NS + (TOKENS - 1) * GAP_NS  # 990 ms
WAY_NS, STAMP_NS = 30_000, 5_000
"""A request's way to the server, and from a write to its stamp."""
USERS = 4
SCHEDULE = Schedule(ttft_ns=TTFT_NS, gap_ns=GAP_NS)

ONE_STEP = simulate(
    {"truth": saturating(itl_ms=20, users_at_double=1e9, ttft_ms=50)},
    plan_of({"truth": saturating(itl_ms=20, users_at_double=1e9, ttft_ms=50)}, load={"steps": [USERS]}),
)
STEP: StepRecord = ONE_STEP.run.visits[0].steps[0]
ROW: RequestSample = ONE_STEP.rows[0]


def on_time(index: int, sent_ns: int) -> tuple[RequestSample, LedgerEntry]:
    """One request whose server kept its schedule."""
    received = sent_ns + WAY_NS
    writes = tuple(received + TTFT_NS + k * GAP_NS for k in range(TOKENS))
    arrivals = [write + STAMP_NS for write in writes]
    row = replace(
        ROW, request_id=f"r{index}", phase=Phase.HOLD, sent_ns=sent_ns, dispatch_ns=sent_ns, arrivals=arrivals,
        first_token_ns=arrivals[0], last_token_ns=arrivals[-1], end_ns=arrivals[-1], output_tokens=TOKENS,
    )  # fmt: skip
    entry = LedgerEntry(
        request_id=f"r{index}", received_ns=received, input_tokens=1, output_tokens=TOKENS, finish="length",
        write_ns=writes,
    )  # fmt: skip
    return row, entry


def load_of(users: int) -> tuple[list[RequestSample], dict[str, LedgerEntry]]:
    """Users, evenly shifted, one request right after the other, from before the hold to its end."""
    rows, ledger = [], {}
    for user in range(users):
        sent = STEP.hold_start_ns - NS_PER_S + user * SERVICE_NS // users
        while sent < STEP.hold_end_ns:
            row, entry = on_time(len(rows), sent)
            phase = Phase.HOLD if sent >= STEP.hold_start_ns else Phase.WARMUP
            rows.append(replace(row, phase=phase))
            ledger[entry.request_id] = entry
            sent += SERVICE_NS + WAY_NS + STAMP_NS
    return rows, ledger


def judged(rows: list[RequestSample], ledger: dict[str, LedgerEntry]) -> CalibrationLevel:
    return judged_level(STEP, samples_from_tables([table_of(tuple(rows))]), ledger, SCHEDULE)


def test_a_client_that_keeps_up_holds_and_its_errors_are_what_they_are() -> None:
    level = judged(*load_of(USERS))
    assert (level.held, level.why, level.users, level.failed) == (True, "", USERS, 0)
    assert level.offered_chunks_per_s == pytest.approx(USERS * TOKENS / 0.990)
    assert level.chunks_per_s == pytest.approx(level.offered_chunks_per_s, rel=0.01)
    assert level.stamp is not None
    assert level.ttft is not None
    assert level.itl is not None
    assert (level.stamp.p50_ns, level.stamp.max_ns) == (STAMP_NS, STAMP_NS)
    assert level.ttft.error.p99_ns == STAMP_NS
    assert (level.ttft.p99_ns, level.ttft.p99_true_ns) == (WAY_NS + TTFT_NS + STAMP_NS, WAY_NS + TTFT_NS)
    assert level.way is not None
    assert level.way.p99_ns == WAY_NS
    assert level.itl.error.max_ns == 0  # all stamps are late by the same
    assert level.itl.n == level.requests * (TOKENS - 1)
    assert level.server_late_ns_p99 == 0


def test_what_was_asked_in_warm_up_counts_as_arrived_and_not_in_the_timing() -> None:
    rows, ledger = load_of(USERS)
    level = judged(rows, ledger)
    assert level.requests == sum(row.phase is Phase.HOLD for row in rows)
    fewer = judged([row for row in rows if row.phase is Phase.HOLD], ledger)
    assert fewer.chunks_per_s < level.chunks_per_s


def test_tokens_that_share_a_late_stamp_are_off_by_a_gap() -> None:
    rows, ledger = load_of(USERS)
    merged = [replace(row, arrivals=[row.arrivals[1], *row.arrivals[1:]], bunched=1, bunched_late=1) for row in rows]
    level = judged(merged, ledger)
    assert level.ttft is not None
    assert level.itl is not None
    assert level.ttft.error.p50_ns == GAP_NS + STAMP_NS
    assert level.itl.error.max_ns == GAP_NS  # the gap after the first token: 0 instead of 20 ms
    assert level.bunched_late_share == pytest.approx(1 / TOKENS)
    assert "late reads merged 2.1% of the tokens" in level.why  # 1 / 48
    assert "TTFT was 20.0" in level.why


def test_a_client_that_asks_late_gets_less_than_is_offered() -> None:
    """One of the users never asks."""
    rows, ledger = load_of(USERS - 1)
    level = judged(rows, ledger)
    assert level.offered_chunks_per_s is not None
    assert level.chunks_per_s / level.offered_chunks_per_s == pytest.approx(3 / 4, rel=0.01)
    assert "of the offered tokens/s arrived" in level.why


def test_a_failed_request_and_one_with_a_chunk_too_few_fail_the_level() -> None:
    rows, ledger = load_of(USERS)
    at = [place for place, row in enumerate(rows) if row.phase is Phase.HOLD]
    rows[at[0]] = failed(rows[at[0]], Outcome.TIMEOUT)
    rows[at[1]] = replace(rows[at[1]], arrivals=rows[at[1]].arrivals[:-1])
    level = judged(rows, ledger)
    assert level.failed == 2
    assert level.why.startswith(f"2 of {len(at)} requests failed, or lost chunks")


def test_a_server_that_was_late_itself_is_named_where_a_level_does_not_hold() -> None:
    rows, ledger = load_of(USERS - 1)
    late = {
        id_: replace(entry, write_ns=tuple(write + 3 * NS_PER_MS for write in entry.write_ns))
        for id_, entry in ledger.items()
    }
    rows = [replace(row, arrivals=[stamp + 3 * NS_PER_MS for stamp in row.arrivals]) for row in rows]
    assert "the ground truth itself was 3.0 ms late (p99)" in judged(rows, late).why


def test_a_send_time_that_cannot_be_true_fails_the_level() -> None:
    rows, ledger = load_of(USERS)
    late = [replace(row, sent_ns=(row.sent_ns or 0) + 2 * WAY_NS) for row in rows]
    level = judged(late, ledger)
    assert level.why == f"{level.requests} requests were recorded as sent after the server had read them"


def test_without_a_schedule_the_servers_own_time_says_what_it_offered() -> None:
    rows, ledger = load_of(USERS)
    level = judged_level(STEP, samples_from_tables([table_of(tuple(rows))]), ledger, None)
    assert level.offered_chunks_per_s == pytest.approx(USERS * TOKENS / 0.990)
    assert level.server_late_ns_p99 is None


def test_a_level_without_a_request_does_not_hold() -> None:
    level = judged([], {})
    assert (level.held, level.why, level.ttft) == (False, "no request ended", None)


def test_a_stepped_clock_is_named_as_the_cause() -> None:
    rows, ledger = load_of(USERS)
    last = next(index for index in reversed(range(len(rows))) if rows[index].phase is Phase.HOLD)
    rows[last] = replace(rows[last], clock_step=True)
    level = judged(rows, ledger)
    assert (level.held, level.why) == (False, "the wall clock was stepped meanwhile")
