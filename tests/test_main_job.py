"""The main job, end to end: one command, real processes, real nginx, compared with what the engines really sent."""

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from loadstair.simserver.ledger import LedgerEntry, read_ledger
from tests.cli import Ended, loadstair, run_folder, simulated, write_plan

THRESHOLD = "topologies.one.capacity.output_tokens_per_s > 0"


PACKAGE = Path(__file__).parents[1] / "loadstair"


@dataclass(frozen=True)
class Job:
    ended: Ended
    folder: Path

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    @cached_property
    def samples(self) -> pd.DataFrame:
        frame: pd.DataFrame = pq.read_table(self.folder / "samples").to_pandas()
        assert frame.request_id.is_unique
        return frame.set_index("request_id")

    def ledger(self, topology: str) -> dict[str, LedgerEntry]:
        """By request id, without what was asked before the load began."""
        paths = sorted((self.folder / "log").glob(f"*-{topology}-engine*.ledger.jsonl"))
        entries = [entry for path in paths for entry in read_ledger(path)]
        asked = {entry.request_id: entry for entry in entries if not entry.request_id.startswith("preflight")}
        assert len(asked) == sum(not entry.request_id.startswith("preflight") for entry in entries), "an id came twice"
        return asked


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`one` is measured without a balancer between, so its times can be held against the ledger."""
    folder = tmp_path_factory.mktemp("job")
    plan = write_plan(
        folder / "plan.yaml",
        [simulated("one", 4), simulated("pair", 2, 2)],
        load={"warmup_s_max": 4},
        slo={"ttft_ms_p99": 500},
        thresholds=[THRESHOLD],
    )
    ended = loadstair("run", plan, "--out", folder / "reports")
    return Job(ended, run_folder(folder / "reports"))


def last_try(job: Job, load: float) -> dict[str, Any]:
    """The step's record, in the first visit; a busy machine may have made it invalid, and then it was taken twice."""
    records = [step for step in job.read("run.json")["visits"][0]["steps"] if step["load"] == load]
    return dict(records[-1])


def test_it_ends_with_a_table_the_path_of_the_report_and_one_sentence(job: Job) -> None:
    assert job.ended.code == 0, job.ended.err
    assert f"report: {job.folder / 'report.html'}" in " ".join(job.ended.out.split("\n"))
    assert job.read("summary.json")["advice"] in " ".join(job.ended.out.split())


def test_nothing_is_left_running(job: Job) -> None:
    assert job.ended.left_running == []


def test_the_run_folder_is_complete(job: Job) -> None:
    names = {path.name for path in job.folder.iterdir()}
    assert names == {
        "plan.yaml", "run.json", "samples", "telemetry.parquet", "summary.json", "results.json", "report.html",
        "junit.xml", "log",
    }  # fmt: skip


@pytest.mark.parametrize("topology", ["one", "pair"])
def test_every_request_the_engines_saw_is_a_row_and_the_other_way_round(job: Job, topology: str) -> None:
    rows = job.samples[job.samples.topology == topology]
    assert set(rows.index) == set(job.ledger(topology))


@pytest.mark.parametrize("topology", ["one", "pair"])
def test_every_request_got_the_tokens_that_its_engine_sent(job: Job, topology: str) -> None:
    rows, ledger = job.samples[job.samples.topology == topology], job.ledger(topology)
    assert set(rows.outcome) == {"ok"}
    for request_id, row in rows.iterrows():
        entry = ledger[str(request_id)]
        assert (row.output_tokens, len(row.arrivals)) == (entry.output_tokens, len(entry.write_ns))
        assert row.input_tokens == entry.input_tokens == row.input_tokens_asked


def test_the_workers_books_are_the_rows(job: Job) -> None:
    for visit in job.read("run.json")["visits"]:
        for step in visit["steps"]:
            rows = job.samples[(job.samples.visit == visit["visit"]) & (job.samples.step == step["step"])]
            books = dict.fromkeys(("scheduled", "held_back", "failed", "killed", "lost"), 0)
            assert step["counters"] == books | {"started": len(rows), "ok": len(rows)}


def test_the_servers_own_counters_agree(job: Job) -> None:
    for visit in job.read("run.json")["visits"]:
        rows = job.samples[job.samples.visit == visit["visit"]]
        before, after = visit["server_before"], visit["server_after"]
        assert after["requests_finished"] - before["requests_finished"] == len(rows)
        assert after["output_tokens"] - before["output_tokens"] == rows.output_tokens.sum()


@pytest.mark.parametrize("step", [0, 1])
def test_ttft_and_itl_are_what_the_engine_really_did(job: Job, step: int) -> None:
    """Within 2 ms or 2 %, however busy this machine was: both sides tell when things happened, not when they should.

    An engine that waits for its core has read a request later than it came: that is part of the TTFT, not of what the
    engine knows. So its writes are held against both, when it had read the request and when that was dispatched.
    """
    measured = job.read("summary.json")["topologies"]["one"]["steps"][step]
    step = last_try(job, measured["load"])["step"]
    held = job.samples.query("topology == 'one' and phase == 'hold' and step == @step").index
    ledger = job.ledger("one")
    since_read_ms = np.array([ledger[key].write_ns[0] - ledger[key].received_ns for key in held]) / 1e6
    since_dispatch_ms = np.array([ledger[key].write_ns[0] - job.samples.dispatch_ns[key] for key in held]) / 1e6
    itl_ms = np.concatenate([np.diff(np.array(ledger[key].write_ns)) for key in held]) / 1e6
    for metric, at_least, at_most in (("ttft_ms", since_read_ms, since_dispatch_ms), ("itl_ms", itl_ms, itl_ms)):
        for name, percent in (("p50", 50), ("p99", 99)):
            value = measured[metric][name]["value"]
            if value is None:
                assert name == "p99"
                assert len(held) < 100, "a p99 is left out only where there are too few requests for one"
                continue
            low, high = (float(np.percentile(truth, percent)) for truth in (at_least, at_most))
            allowed = max(2.0, 0.02 * low)
            assert low - allowed <= value <= high + allowed, (metric, name)


def test_a_forecast_is_not_passed_off_as_a_measurement(job: Job) -> None:
    assert "topology.simulated" in {finding["id"] for finding in job.read("summary.json")["findings"]}


def test_throughput_is_what_the_engine_wrote_inside_the_hold(job: Job) -> None:
    for measured in job.read("summary.json")["topologies"]["one"]["steps"]:
        step = last_try(job, measured["load"])
        inside = [
            stamp
            for entry in job.ledger("one").values()
            for stamp in entry.write_ns
            if step["hold_start_ns"] <= stamp < step["hold_end_ns"]
        ]
        hold_s = (step["hold_end_ns"] - step["hold_start_ns"]) / 1e9
        edge = 2 * step["load"] / hold_s  # a token of each user may cross either edge of the window on its way
        assert measured["output_tokens_per_s"]["value"] == pytest.approx(len(inside) / hold_s, abs=edge)


def test_the_balancer_is_real_and_says_which_engine_served(job: Job) -> None:
    upstreams = job.samples[job.samples.topology == "pair"].upstream
    assert upstreams.notna().all()
    counts = upstreams.value_counts()
    assert len(counts) == 2
    assert counts.max() - counts.min() <= 2, "round robin gives every second request to the other engine"


def test_there_is_telemetry_of_engines_balancer_and_generator(job: Job) -> None:
    telemetry = pq.read_table(job.folder / "telemetry.parquet").to_pandas()
    seen = set(zip(telemetry.source, telemetry.series, strict=True))
    for wanted in (
        ("one/engine0", "engine.requests.running"),
        ("pair/engine1", "engine.kv.usage"),
        ("pair/balancer", "balancer.connections.active"),
    ):
        assert wanted in seen
    assert any(source.startswith("generator/") and series == "generator.cpu_percent" for source, series in seen)


def test_the_analysis_and_the_report_can_be_made_again_from_the_files(job: Job) -> None:
    names = ("summary.json", "results.json", "report.html", "junit.xml")
    before = {name: (job.folder / name).read_text() for name in names}
    for name in names:
        (job.folder / name).unlink()
    assert loadstair("analyze", job.folder).code == 0
    assert loadstair("report", job.folder).code == 0
    assert {name: (job.folder / name).read_text() for name in names} == before


def test_junit_has_a_case_for_every_verdict(job: Job) -> None:
    suites = ET.parse(job.folder / "junit.xml").getroot()
    cases = {suite.attrib["name"]: [case.attrib["name"] for case in suite] for suite in suites}
    assert cases == {"one": ["2 users", "8 users"], "pair": ["2 users", "8 users"], "thresholds": [THRESHOLD]}


def test_no_prompt_is_kept(job: Job) -> None:
    """Prompts are runs of words from the shipped texts: no four of them stand in a row anywhere in the folder."""
    shipped = [path.read_text().split() for path in (PACKAGE / "load" / "text").glob("*.txt")]
    phrases = {" ".join(words[i : i + 4]) for words in shipped for i in range(len(words) - 3)}
    texts = [
        path.read_text()
        for path in job.folder.rglob("*")
        if path.suffix in (".json", ".jsonl", ".log", ".yaml", ".xml")
    ]
    texts += [str(value) for name in job.samples.select_dtypes("str") for value in job.samples[name].dropna().unique()]
    for text in texts:
        words = text.split()
        assert not phrases & {" ".join(words[i : i + 4]) for i in range(len(words) - 3)}
