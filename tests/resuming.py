"""Runs that end early and are resumed, as a user does it, and what holds of every one of them."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.cli import Ended, end_of, marked, run_folder, started, steps_on_disk, wait_for

SHORT = {"warmup_s": 0.5, "hold_s": 1.5}
MODEL = "Qwen/Qwen2.5-32B-Instruct"
CUT_SHORT = {"running", "storage_failed"}
"""Endings of a run that could not write any more what was under way."""


@dataclass(frozen=True)
class Broken:
    folder: Path
    ended: Ended
    record: dict[str, Any]
    """run.json as the run left it."""
    samples: dict[str, bytes]


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def records_in(out: Path) -> list[dict[str, Any]]:
    """run.json of each run, as far as there are any yet."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*/run.json")]


def samples_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "samples").glob("*.parquet")}


def broken_off(plan: Path, out: Path, by: signal.Signals = signal.SIGINT, *, after: Callable[[], object]) -> Broken:
    """A run that gets the signal when `after` holds and some more requests were answered: in the middle of a step."""
    with started("run", plan, "--out", out) as process:
        wait_for("what the run is to have done", lambda: after() or process.poll() is not None)
        so_far = answered(out)
        wait_for("requests of what comes next", lambda: answered(out) > so_far or process.poll() is not None)
        process.send_signal(by)
        ended = end_of(process) if by is not signal.SIGKILL else killed(process)
    return left_behind(out, ended)


def left_behind(out: Path, ended: Ended) -> Broken:
    folder = run_folder(out)
    return Broken(folder=folder, ended=ended, record=read(folder, "run.json"), samples=samples_in(folder))


def killed(process: Any) -> Ended:
    process.wait()
    wait_for("the end of its children", lambda: not marked(process.mark))
    return Ended(process.returncode, "", "", [])


def answered(out: Path) -> int:
    """Requests, by the ledgers of the simulated engines, in the run or beside it."""
    return sum(path.read_bytes().count(b"\n") for path in out.parent.rglob("*.ledger.jsonl"))


def some_steps(out: Path, count: int) -> Callable[[], bool]:
    return lambda: steps_on_disk(out) >= count


def steps_by_visit(record: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """By visit, without their counters: those grow where workers had kept the end of what was under way."""
    return {
        visit["visit"]: [{name: value for name, value in step.items() if name != "counters"} for step in visit["steps"]]
        for visit in record["visits"]
    }


def check_resumed(broken: Broken, again: Ended) -> dict[str, Any]:
    """What holds for every run that was resumed to its end; gives its summary."""
    folder = broken.folder
    record, summary = read(folder, "run.json"), read(folder, "summary.json")
    assert again.code == (4 if summary["topologies_without_valid_step"] else 0), again.err
    assert again.left_running == []
    assert "Traceback" not in again.err
    assert (record["ending"], summary["ending"]) == ("complete", "complete")
    assert broken.samples.items() <= samples_in(folder).items()
    before = steps_by_visit(broken.record)
    assert {visit: steps for visit, steps in steps_by_visit(record).items() if visit in before} == before
    check_books(folder, record)
    (told,) = [one["message"] for one in summary["findings"] if one["id"] == "run.resumed"]
    assert told in (folder / "report.html").read_text(encoding="utf-8")
    assert told.split(":")[0] in again.out
    return summary


def check_books(folder: Path, record: dict[str, Any]) -> None:
    rows = pq.read_table(folder / "samples").to_pandas()
    assert rows.request_id.is_unique
    places = [(visit["visit"], step["step"]) for visit in record["visits"] for step in visit["steps"]]
    assert len(set(places)) == len(places)
    for visit in record["visits"]:
        own = rows[rows.visit == visit["visit"]]
        for step in visit["steps"]:
            outcomes = Counter(own[own.step == step["step"]].outcome)
            ok, was_killed = outcomes["ok"], outcomes["killed"]
            failed = outcomes.total() - ok - was_killed
            books = step["counters"]
            assert (books["ok"], books["failed"], books["killed"]) == (ok, failed, was_killed)
            under_way = books["started"] - ok - failed - was_killed - books["lost"]
            assert under_way == 0 or (under_way > 0 and visit["broke_off"] in CUT_SHORT)
        strays = set(own.step) - {step["step"] for step in visit["steps"]}
        assert not strays or visit["broke_off"] is not None  # of a step that was under way


def steps_of(record: dict[str, Any], topology: str, repeat: int, role: str = "planned") -> list[float]:
    """Loads, in the order in which they were taken."""
    return [
        step["load"]
        for visit in record["visits"]
        if (visit["topology"], visit["repeat"]) == (topology, repeat)
        for step in visit["steps"]
        if step["role"] == role
    ]


def check_told(summary: dict[str, Any], topology: str, loads: list[float]) -> None:
    """The topology's steps are those, each valid or with a reason."""
    steps = summary["topologies"][topology]["steps"]
    assert [step["load"] for step in steps] == loads
    assert all(step["verdict"] == "valid" or step["reasons"] for step in steps)
