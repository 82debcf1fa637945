"""A real Locust master with real workers against a scripted server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import loadstair
from loadstair.clock import Deadline, sleep_s
from loadstair.drive.locustfile import locustfile
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.spools import read_spool, spools_in
from loadstair.drive.staircase import Hooks, Now, climb, in_order
from loadstair.errors import LoadError, TopologyError
from loadstair.fetch import fetch
from loadstair.plan.model import Lengths, Load, Workload
from loadstair.samples.look import Look
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import Counters, StepRecord
from loadstair.samples.table import SAMPLE_SCHEMA
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.ports import free_ports
from loadstair.units import NS_PER_MS, NS_PER_S, s_from_ns

USER_KEY = "sk-of-the-user"
LOAD = Load(steps=(2.0, 5.0), warmup_s=0.4, hold_s=1.0, request_timeout_s=20.0)


def visit_load(origin: str, *, script: str = "normal", lease_s: float = 15.0, visit: int = 1) -> VisitLoad:
    return VisitLoad(
        visit=visit,
        topology="one",
        repeat=2,
        seed=7,
        workload=Workload(model="m", input_tokens=Lengths(mean=12), output_tokens=Lengths(mean=8, cv=0.3)),
        load=LOAD,
        endpoint=Endpoint(url=f"{origin}/{script}/v1", replicas=()),
        lease_s=lease_s,
    )


class Notes:
    """What the hooks were given."""

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self.steps: list[StepRecord] = []
        self.parts = 0
        self.tables: list[pa.Table] = []
        self.step_counters: list[dict[int, Counters]] = []
        self.counters: dict[int, Counters] = {}
        self.progress: list[Now] = []
        self.looks: list[Sequence[Look]] = []
        self.hooks = Hooks(
            tick=tick,
            on_step=self._step,
            on_part=self._part,
            on_rest=self._rest,
            on_progress=self.progress.append,
            warmed_up=self._enough,
            precise=self._enough,
        )

    def _enough(self, looks: Sequence[Look]) -> bool:
        self.looks.append(looks)
        return True

    def _step(self, record: StepRecord, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        self.steps.append(record)
        self.tables.append(table)
        self.step_counters.append(dict(counters))

    def _part(self, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        self.parts += 1
        self._rest(table, counters)

    def _rest(self, table: pa.Table, counters: Mapping[int, Counters]) -> None:
        self.counters = dict(counters)
        self.tables.append(table)

    def rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = pa.concat_tables(self.tables).to_pylist()
        return rows


def wait_until(condition: Callable[[], object]) -> None:
    deadline = Deadline.after_s(30.0)
    while not condition():
        assert not deadline.passed()
        sleep_s(0.05)


@pytest.fixture(scope="module")
def climbed(
    scripted_server: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Notes, tuple[StepRecord, ...], bool, dict[str, int]]:
    notes = Notes()
    log_dir = tmp_path_factory.mktemp("log")
    env = {**os.environ, "OPENAI_API_KEY": USER_KEY}
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=log_dir, env=env) as session:
        pids = session.pids
        records, drained = climb(session, in_order(LOAD.steps), LOAD, notes.hooks)
    return notes, records, drained, pids


Climbed = tuple[Notes, tuple[StepRecord, ...], bool, dict[str, int]]


def test_every_request_that_was_started_has_one_record(climbed: Climbed) -> None:
    notes, records, drained, _ = climbed
    rows = notes.rows()
    assert drained
    for record in records:
        of_step = [row for row in rows if row["step"] == record.step]
        counters = record.counters
        assert counters.started == len(of_step) == counters.ok
        assert (counters.failed, counters.killed) == (0, 0)
        assert sorted({row["index"] for row in of_step}) == sorted(row["index"] for row in of_step)
    assert len({row["request_id"] for row in rows}) == len(rows)
    assert pa.concat_tables(notes.tables).schema == SAMPLE_SCHEMA


def test_a_long_steps_records_are_handed_over_while_it_goes_on_each_once(scripted_server: str, tmp_path: Path) -> None:
    notes = Notes()
    load = LOAD.model_copy(update={"steps": (3.0,), "hold_s": 4.0})
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path, part_s=0.2) as session:
        records, drained = climb(session, in_order(load.steps), load, notes.hooks)
    assert drained
    assert notes.parts >= 2
    ids = [row["request_id"] for row in notes.rows()]
    assert len(ids) == len(set(ids)) == records[0].counters.started == records[0].counters.ok


def test_the_tag_is_the_one_of_the_moment_of_dispatch(climbed: Climbed) -> None:
    """The barrier names the last worker's switch; the other one switched while the same call was under way."""
    notes, records, _, _ = climbed
    slack_ns = 100_000_000
    for row in notes.rows():
        record = records[int(str(row["step"]))]
        dispatch_ns = int(str(row["dispatch_ns"]))
        match row["phase"]:
            case "warmup":
                assert record.start_ns - slack_ns < dispatch_ns <= record.hold_start_ns
            case "hold":
                assert record.hold_start_ns - slack_ns < dispatch_ns
            case "tail":
                assert record.hold_end_ns < dispatch_ns
        assert row["load"] == record.load
    assert {row["phase"] for row in notes.rows()} == {"warmup", "hold", "tail"}


def test_both_workers_carry_load_and_every_user_runs(climbed: Climbed) -> None:
    notes, records, _, _ = climbed
    assert {row["worker"] for row in notes.rows()} == {"worker-0", "worker-1"} == set(records[0].workers)
    for record, users in zip(records, LOAD.steps, strict=True):
        edges = [
            (int(str(row[name])), change)
            for row in notes.rows()
            for name, change in (("sent_ns", 1), ("end_ns", -1))
            if row["step"] == record.step and row["phase"] == "hold"
        ]
        in_flight = peak = 0
        for _, change in sorted(edges):
            in_flight += change
            peak = max(peak, in_flight)
        assert peak == users


def test_a_steps_records_are_handed_over_before_the_next_step_begins(climbed: Climbed) -> None:
    notes, records, _, _ = climbed
    first = notes.tables[0].to_pylist()
    assert {row["step"] for row in first} == {0}
    assert all(record.tail_complete for record in records)
    assert sum(row["phase"] == "hold" for row in first) == sum(
        row["phase"] == "hold" and row["step"] == 0 for row in notes.rows()
    )


def settled(counters: Counters) -> int:
    return counters.ok + counters.failed + counters.killed


def test_the_counters_given_with_a_step_match_the_records_given_until_then(climbed: Climbed) -> None:
    notes, records, _, _ = climbed
    for number, (record, counters) in enumerate(zip(notes.steps, notes.step_counters, strict=True)):
        rows = pa.concat_tables(notes.tables[: number + 1]).to_pylist()
        assert record.counters == counters[record.step]
        assert set(counters) == set(range(number + 1))
        for step in counters:
            assert settled(counters[step]) == sum(row["step"] == step for row in rows)
            assert settled(counters[step]) <= counters[step].started <= records[step].counters.started


def test_what_is_told_of_a_hold_that_goes_on_is_what_its_records_say(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=3, load=4.0, users=4, growth_s=0.0)
        session.set_phase(Phase.HOLD)
        wait_until(lambda: session.status().latencies.requests >= 8)
        session.set_phase(Phase.TAIL)
        wait_until(lambda: session.status().in_flight_hold == 0)
        session.flush()
        seen = session.status().latencies
        rows = session.take_records().to_pandas()
    rows = rows[(rows.phase == "hold") & (rows.outcome == "ok")]
    assert seen.requests == len(rows)
    ttft_ms = np.sort((rows.first_token_ns - rows.sent_ns) / NS_PER_MS)
    assert seen.ttft_ms_p50 == pytest.approx(ttft_ms[(len(ttft_ms) + 1) // 2 - 1], rel=0.01)
    assert seen.ttft_ms_p99 == pytest.approx(ttft_ms[-1], rel=0.01)


def test_a_worker_keeps_records_until_they_are_said_to_be_on_disk(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        wait_until(lambda: len(spools_in(tmp_path)) == 2)
        assert session.drain(Deadline.after_s(20.0))
        session.flush()
        taken = session.take_records()
        kept = [content for path in spools_in(tmp_path) if (content := read_spool(path))]
        session.confirm_records()
        assert spools_in(tmp_path) == []
    ids = pa.concat_tables([content.table for content in kept])["request_id"].to_pylist()
    assert sorted(ids) == sorted(taken["request_id"].to_pylist())
    assert {content.worker for content in kept} == {"worker-0", "worker-1"}
    assert sum(content.counters[0]["ok"] for content in kept) == len(ids)


@pytest.mark.slow
def test_records_that_came_after_a_flush_wait_for_the_next(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 4)
        sleep_s(1.0)
        flushed = session.flush()[0]
        sleep_s(1.0)  # workers send a batch every 0.5 s
        first = session.take_records().num_rows
        final = session.stop()[0]
        rest = session.take_records().num_rows
    assert 0 < settled(flushed) == first
    assert rest > 0
    assert settled(final) == final.started == first + rest


def test_a_key_of_the_users_environment_is_not_sent_to_who_did_not_ask_for_it(
    climbed: Climbed, scripted_server: str
) -> None:
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    assert {ledger[row["request_id"]]["authorization"] for row in climbed[0].rows()} == {"bearer none"}


@pytest.mark.slow
def test_a_hold_may_be_longer_than_the_lease(scripted_server: str, tmp_path: Path) -> None:
    load = Load(steps=(1.0,), warmup_s=0.2, hold_s=2.0, request_timeout_s=20.0)
    notes = Notes()
    with LoadSession(visit_load(scripted_server, lease_s=1.5), workers=1, log_dir=tmp_path) as session:
        _, drained = climb(session, in_order(load.steps), load, notes.hooks)
    assert drained


@pytest.mark.slow
def test_a_port_that_somebody_else_took_meanwhile_is_replaced(scripted_server: str, tmp_path: Path) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        taken = somebody.getsockname()[1]
        found = iter([[taken, *free_ports(1)], [*free_ports(1), taken], free_ports(2)])
        with LoadSession(
            visit_load(scripted_server), workers=1, log_dir=tmp_path, ports=lambda _: next(found)
        ) as session:
            assert len(session.status().workers) == 1


@pytest.mark.slow
def test_warm_up_goes_on_until_the_load_is_stationary_or_its_maximum_has_passed(
    scripted_server: str, tmp_path: Path
) -> None:
    load = LOAD.model_copy(update={"steps": (2.0, 3.0, 4.0), "hold_s": 0.3, "warmup_s_max": 1.5})
    asked: list[list[Look]] = []

    def warmed_up(looks: Sequence[Look]) -> bool:
        asked.append(list(looks))
        return len(asked) == 3  # the first step is looked at twice in vain, the others until the maximum

    notes = Notes()
    hooks = replace(notes.hooks, warmed_up=warmed_up)
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        records, _ = climb(session, in_order(load.steps), load, hooks)
    assert [record.stationary for record in records] == [True, False, False]
    assert s_from_ns(records[1].hold_start_ns - records[1].start_ns) >= load.warmup_s_max
    last = asked[-1][-1]
    assert [look.tokens for look in asked[-1]] == sorted(look.tokens for look in asked[-1])
    assert last.in_flight == 4
    # The scripted server begins each answer after some 20 ms.
    assert 0.01 < last.ttft_s_sum / last.first_tokens < 0.1
    rows = [row for row in notes.rows() if row["first_token_ns"] is not None]
    assert last.first_tokens <= len(rows)
    assert last.tokens <= sum(len(row["arrivals"]) for row in rows)  # type: ignore[arg-type]


def test_without_time_to_look_warm_up_has_its_minimum_alone(scripted_server: str, tmp_path: Path) -> None:
    load = LOAD.model_copy(update={"steps": (2.0,), "hold_s": 0.3, "warmup_s_max": LOAD.warmup_s})
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=1, log_dir=tmp_path) as session:
        (record,), _ = climb(session, in_order(load.steps), load, notes.hooks)
    assert record.stationary is None
    assert notes.looks == []


@pytest.mark.slow
@pytest.mark.parametrize(("precise", "held_s"), [(True, 0.5), (False, 1.2)])
def test_a_hold_for_a_precision_ends_when_it_is_reached_or_with_its_maximum(
    precise: bool, held_s: float, scripted_server: str, tmp_path: Path
) -> None:
    load = LOAD.model_copy(update={"steps": (2.0,), "hold_s": 0.5, "hold_s_max": 1.2, "precision": 0.03})
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=1, log_dir=tmp_path) as session:
        (record,), _ = climb(session, in_order(load.steps), load, replace(notes.hooks, precise=lambda _: precise))
    lasted_s = s_from_ns(record.hold_end_ns - record.hold_start_ns)
    assert lasted_s >= held_s
    assert precise == (lasted_s < 1.2)
    hold = [row for row in notes.rows() if row["phase"] == Phase.HOLD]
    # Dispatched before the barrier at its end, which all workers pass a little later than the window's end.
    assert all(record.hold_start_ns - NS_PER_S <= row["dispatch_ns"] for row in hold)  # type: ignore[operator]


def test_progress_names_every_phase_of_each_step(climbed: Climbed) -> None:
    notes, _, _, _ = climbed
    assert {(entry.step, entry.phase) for entry in notes.progress} >= {(0, "warmup"), (0, "hold"), (1, "hold")}


def test_leaving_the_session_leaves_no_process(climbed: Climbed) -> None:
    assert not [pid for pid in climbed[3].values() if psutil.pid_exists(pid)]


def test_what_is_under_way_at_a_stop_is_recorded_as_killed(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server, script="stall"), workers=1, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=3.0, users=3, growth_s=0.0)
        wait_until(lambda: session.status().started_users == 3)
        wait_until(lambda: session.status().in_flight == 3)
        counters = session.stop()
        rows = session.take_records().to_pylist()
        assert session.status().in_flight == 0
    assert counters == {0: Counters(started=3, ok=0, failed=0, killed=3)}
    assert [row["outcome"] for row in rows] == ["killed"] * 3


def test_with_fewer_users_the_others_park_after_their_request(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 4)
        session.begin_step(step=1, load=1.0, users=1, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 1)
        assert session.status().users == 1
        session.begin_step(step=2, load=3.0, users=3, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 3)
        assert session.drain(Deadline.after_s(20.0))
        counters = session.flush()
    assert all(books.started == books.ok for books in counters.values())


@pytest.mark.slow
def test_a_visit_that_breaks_off_still_hands_over_its_records(scripted_server: str, tmp_path: Path) -> None:
    ticks = iter(range(4))

    def tick() -> None:
        if next(ticks, None) is None:
            raise TopologyError("the engine died")

    notes = Notes(tick)
    with (
        LoadSession(visit_load(scripted_server), workers=1, log_dir=tmp_path) as session,
        pytest.raises(TopologyError, match="the engine died"),
    ):
        climb(session, in_order(LOAD.steps), LOAD, notes.hooks)
    assert notes.steps == []
    books = notes.counters[0]
    assert books.started == len(notes.rows()) == books.ok + books.killed
    assert books.killed > 0


@pytest.mark.slow
def test_a_worker_that_dies_is_named_and_its_load_is_not_taken_over(scripted_server: str, tmp_path: Path) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 4)
        sleep_s(1.0)  # a worker tells of itself with its batches, every 0.5 s
        os.kill(session.pids["locust-worker-1"], signal.SIGKILL)
        wait_until(lambda: len(session.status().workers_lost) == 1)
        status = session.status()
        assert len(status.workers) == 2
        assert status.users == 2
        session.set_phase(Phase.HOLD)
        counters = session.stop()[0]
        assert settled(counters) == session.take_records().num_rows < counters.started
        assert settled(counters) + counters.lost == counters.started


class LosesOneBeforeTheFlush(LoadSession):
    """A worker is killed when the first step's tail has ended, and its last records have not been sent."""

    complete = True

    def flush(self) -> dict[int, Counters]:
        if self.complete:
            self.complete = False
            os.kill(self.pids["locust-worker-1"], signal.SIGKILL)
        return super().flush()


@pytest.mark.slow
def test_a_worker_that_is_lost_after_the_tail_is_lost_in_that_step(scripted_server: str, tmp_path: Path) -> None:
    notes = Notes()
    with LosesOneBeforeTheFlush(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        steps, drained = climb(session, in_order((4.0,)), LOAD, notes.hooks)
    assert [len(step.workers_lost) for step in steps] == [1]
    assert drained


@pytest.mark.slow
def test_the_users_of_a_worker_that_dies_before_they_are_spawned_are_spawned_by_the_others(
    scripted_server: str, tmp_path: Path
) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=2.0, users=2, growth_s=0.0)
        os.kill(session.pids["locust-worker-1"], signal.SIGKILL)
        session.begin_step(step=1, load=6.0, users=6, growth_s=0.0)  # the master does not know it yet
        wait_until(lambda: session.status().users == 6)
        assert len(session.status().workers_lost) == 1
        session.stop()


@pytest.mark.slow
def test_a_worker_that_comes_back_is_told_to_quit(scripted_server: str, tmp_path: Path) -> None:
    """It was away for so short a time that it does not end by itself."""
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        worker = psutil.Process(session.pids["locust-worker-1"])
        worker.suspend()
        wait_until(lambda: session.status().workers_lost)
        worker.resume()
        wait_until(lambda: session.status() and worker.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
def test_from_the_next_step_on_the_workers_that_are_left_carry_the_whole_load(
    scripted_server: str, tmp_path: Path
) -> None:
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        session.begin_step(step=0, load=4.0, users=4, growth_s=0.0)
        os.kill(session.pids["locust-worker-0"], signal.SIGKILL)
        wait_until(lambda: session.status().workers_lost)
        (lost,) = session.status().workers_lost  # ranks are by who came first
        (left,) = {"worker-0", "worker-1"} - {lost}
        session.begin_step(step=1, load=4.0, users=4, growth_s=0.0)
        wait_until(lambda: session.status().in_flight == 4)
        status = session.status()
        assert (status.workers, status.workers_lost, status.users) == ((left,), (), 4)
        books = session.stop()
        rows = session.take_records().to_pylist()
    assert {row["worker"] for row in rows if row["step"] == 1} == {left}
    assert sorted(row["index"] for row in rows if row["step"] == 1) == list(range(books[1].started))


@pytest.mark.slow
def test_a_worker_that_dies_before_the_first_step_is_not_among_those_that_began_it(
    scripted_server: str, tmp_path: Path
) -> None:
    notes = Notes()
    with LoadSession(visit_load(scripted_server), workers=2, log_dir=tmp_path) as session:
        os.kill(session.pids["locust-worker-1"], signal.SIGKILL)
        wait_until(lambda: len(session.status().workers) == 1)
        records, _ = climb(session, in_order(LOAD.steps), LOAD, notes.hooks)
        assert session.workers_wanted == 2
    assert [(len(record.workers), record.workers_lost) for record in records] == [(1, ()), (1, ())]


@pytest.fixture(scope="module")
def idle(scripted_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadSession, Path]]:
    """A session that is given no load, and its log folder."""
    log_dir = tmp_path_factory.mktemp("idle")
    with LoadSession(visit_load(scripted_server), workers=1, log_dir=log_dir) as session:
        yield session, log_dir


Idle = tuple[LoadSession, Path]


def test_nobody_without_the_token_is_served(idle: Idle) -> None:
    for headers in ({}, {"X-Loadstair-Token": "guess"}):
        for call, body in (("status", None), ("records", None), ("stop", b"{}"), ("step", b"{}")):
            assert fetch(f"{idle[0].controller_url}{call}", body=body, headers=headers, timeout_s=5).status == 403


def test_locusts_own_pages_are_closed_while_an_orchestrator_drives(idle: Idle) -> None:
    root = idle[0].controller_url.removesuffix("loadstair/")
    calls = (("", None), ("swarm", b"user_count=1&spawn_rate=1"), ("stop", None), ("stats/requests", None))
    for path, body in calls:
        assert fetch(root + path, body=body, timeout_s=5).status == 403


def test_a_nonsensical_step_is_refused_with_the_reason(idle: Idle) -> None:
    with pytest.raises(LoadError, match="users: -1 is not a number of at least 0"):
        idle[0].begin_step(step=0, load=1.0, users=-1, growth_s=0.0)


def test_the_token_stands_in_no_file(idle: Idle) -> None:
    session, log_dir = idle
    token = psutil.Process(session.pids["master"]).environ()["LOADSTAIR_TOKEN"]
    session.status()
    written = b"".join(path.read_bytes() for path in log_dir.iterdir())
    assert len(token) >= 32
    assert token.encode() not in written


def orchestrator(origin: str, log_dir: Path) -> subprocess.Popen[str]:
    """Says the pids of its load as one line of JSON, then lets it run."""
    command = [sys.executable, "-m", "tests.drive.orchestrator", origin, str(log_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def running(log_dir: Path) -> list[psutil.Process]:
    """The load's processes that write there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LOADSTAIR_LOAD_CONFIG", "").startswith(str(log_dir)):
                found.append(process)
    return found


@pytest.mark.slow
def test_an_orchestrator_that_falls_silent_ends_the_load(scripted_server: str, tmp_path: Path) -> None:
    with orchestrator(scripted_server, tmp_path) as silent:
        try:
            assert silent.stdout is not None
            processes = [psutil.Process(pid) for pid in json.loads(silent.stdout.readline()).values()]
            silent.send_signal(signal.SIGSTOP)
            wait_until(lambda: all(process.status() == psutil.STATUS_ZOMBIE for process in processes))
        finally:
            silent.kill()


def test_an_interruption_while_the_load_starts_leaves_no_process(scripted_server: str, tmp_path: Path) -> None:
    with orchestrator(scripted_server, tmp_path) as interrupted:
        wait_until(lambda: len(running(tmp_path)) >= 2)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(timeout=60) == 130
    assert running(tmp_path) == []


def test_a_missing_key_is_told_at_the_start(scripted_server: str, tmp_path: Path) -> None:
    wanted = visit_load(scripted_server)
    endpoint = Endpoint(url=wanted.endpoint.url, replicas=(), api_key_env="LOADSTAIR_NO_SUCH_KEY")
    broken = VisitLoad(
        visit=1, topology="one", repeat=0, seed=0, workload=wanted.workload, load=LOAD, endpoint=endpoint
    )
    with pytest.raises(LoadError) as caught, LoadSession(broken, workers=1, log_dir=tmp_path):
        pass
    assert "LOADSTAIR_NO_SUCH_KEY is not set" in (caught.value.log_tail or "")


def test_the_locustfile_works_by_itself(scripted_server: str, tmp_path: Path) -> None:
    """As an ordinary locustfile; the figures are Locust's own."""
    root = str(Path(loadstair.__file__).parent.parent)
    options = [
        "--headless",
        "--users",
        "3",
        "--spawn-rate",
        "3",
        "--run-time",
        "1s",
        "--json",
        "--model",
        "m",
        "--output-tokens",
        "4",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(locustfile()), "--host", f"{scripted_server}/normal", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": root, "OPENAI_API_KEY": "sk-standalone"},
    )
    assert run.returncode == 0, run.stderr
    assert '"name": "chat"' in run.stdout
    ledger = fetch(f"{scripted_server}/ledger", timeout_s=5).json()
    assert "bearer sk-standalone" in {entry["authorization"] for entry in ledger.values()}
