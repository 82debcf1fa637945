"""The whole chain (session, workers, client, parser) against the simulated engine's own account of what it sent."""

import sys

import pytest

from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.staircase import climb, in_order
from loadstair.plan.model import Lengths, Load, Workload
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from loadstair.topology.endpoint import Endpoint
from tests.drive.test_session import Notes
from tests.explore.headless import engine

MODEL = "Qwen/Qwen2.5-32B-Instruct"
LOAD = Load(steps=(8.0,), warmup_s=0.5, hold_s=2.0, request_timeout_s=20.0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], dict[str, LedgerEntry]]:
    folder = tmp_path_factory.mktemp("ledger")
    notes = Notes()
    with engine(folder) as server:
        workload = Workload(model=MODEL, input_tokens=Lengths(mean=200, cv=0.2), output_tokens=Lengths(mean=30, cv=0.2))
        visit_load = VisitLoad(
            visit=0,
            topology="sim",
            repeat=0,
            seed=3,
            workload=workload,
            load=LOAD,
            endpoint=Endpoint(url=f"{server.url}/v1", replicas=()),
            calibrate_words=False,
        )
        with LoadSession(visit_load, workers=1, log_dir=folder) as session:
            climb(session, in_order(LOAD.steps), LOAD, notes.hooks)
    return notes.rows(), {entry.request_id: entry for entry in read_ledger(server.ledger)}


Measured = tuple[list[dict[str, object]], dict[str, LedgerEntry]]


@pytest.mark.slow
def test_client_and_engine_agree_on_which_requests_there_were(measured: Measured) -> None:
    rows, ledger = measured
    assert {row["request_id"] for row in rows} == set(ledger)
    assert {row["outcome"] for row in rows} == {"ok"}


@pytest.mark.slow
def test_client_and_engine_agree_on_the_tokens_of_each_request(measured: Measured) -> None:
    rows, ledger = measured
    for row in rows:
        entry = ledger[str(row["request_id"])]
        assert row["output_tokens"] == row["output_tokens_asked"] == entry.output_tokens
        assert row["input_tokens"] == entry.input_tokens


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what it receives")
def test_each_token_is_stamped_after_the_engine_wrote_it_and_before_it_wrote_the_next(measured: Measured) -> None:
    rows, ledger = measured
    for row in rows:
        entry = ledger[str(row["request_id"])]
        arrivals = row["arrivals"]
        assert isinstance(arrivals, list)
        assert int(str(row["sent_ns"])) < entry.received_ns < entry.write_ns[0]
        ends = [*entry.write_ns[1:], int(str(row["end_ns"])) + 1]
        for arrival, wrote, wrote_next in zip(arrivals, entry.write_ns, ends, strict=True):
            if arrivals.count(arrival) == 1:  # a bunched token has no time of its own
                assert wrote <= arrival < wrote_next
