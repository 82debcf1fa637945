"""plans/h100-compose.yaml as the operator runs it, with simulated engines where the GPUs would be."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loadstair.topology.nginx import nginx_path
from loadstair.topology.ports import free_ports
from tests.cli import Ended, end_of, loadstair, run_folder, started
from tests.deploy.balancer import running_balancer
from tests.deploy.compose_file import ROOT
from tests.simserver.engine_process import running_engine
from tests.telemetry.scripted_page import served_page

PLAN = ROOT / "plans/h100-compose.yaml"
SHORT = "load={steps: [2, 8], warmup_s: 1, warmup_s_max: 1, hold_s: 4, cooldown_s: 0, repeats: 1}"
LENGTHS = "workload.output_tokens={mean: 24, cv: 0.3}"


def exporter_page(gpus: int) -> str:
    """As a DCGM exporter has it: 40 GiB used on each GPU."""
    return "".join(f'DCGM_FI_DEV_FB_USED{{gpu="{gpu}",UUID="GPU-{gpu}"}} {40 * 1024}\n' for gpu in range(gpus))


@dataclass(frozen=True)
class Job:
    ended: Ended
    folder: Path

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """tp4 is up; tp2x2 comes up once the run waits for it, as after a change of profiles on a host with four GPUs."""
    if nginx_path() is None:
        pytest.skip("needs nginx")
    folder = tmp_path_factory.mktemp("h100")
    outside = dict(zip(("8000", "8001", "8002", "8080"), free_ports(4), strict=True))
    with ExitStack() as stack:
        pages = {"9400": exporter_page(4), "9401": exporter_page(4)}
        exporters = {port: stack.enter_context(served_page(lambda _, text=text: text)) for port, text in pages.items()}
        text = PLAN.read_text()
        for port, page in exporters.items():
            text = text.replace(f"http://127.0.0.1:{port}/metrics", page)
        for port, here in outside.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        (folder / "plan.yaml").write_text(text)

        def engine(port: str, tp: int) -> None:
            options = ["--gpu", "h100-sxm", "--tp", str(tp), "--port", str(outside[port]), "--speed", "1"]
            stack.enter_context(running_engine(tmp_path_factory.mktemp("engine"), *options))

        engine("8000", 4)
        options = ["--set", SHORT, "--set", LENGTHS, "--set", "thresholds=[]", "--out", folder / "reports"]
        with started("run", folder / "plan.yaml", *options) as process:
            said = until_it_waits_for("tp2x2", process)
            engine("8001", 2)
            engine("8002", 2)
            stack.enter_context(running_balancer(tmp_path_factory.mktemp("nginx"), outside, engines="127.0.0.1"))
            ended = end_of(process)
        yield Job(Ended(ended.code, said + ended.out, ended.err, ended.left_running), run_folder(folder / "reports"))


def until_it_waits_for(topology: str, process: subprocess.Popen[str]) -> str:
    said = ""
    assert process.stdout is not None
    while f"{topology}: has 3600 s from now to answer" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def test_the_plan_is_good() -> None:
    checked = loadstair("check", PLAN)
    assert checked.code == 0, checked.err
    assert "visits: tp4 tp2x2 tp2x2 tp4" in checked.out


@pytest.mark.slow
def test_a_topology_that_comes_up_during_the_run_is_measured(job: Job) -> None:
    assert job.ended.code in (0, 4), job.ended.err  # 4: this machine was too busy for a valid step
    assert set(pq.read_table(job.folder / "samples").to_pandas().topology) == {"tp4", "tp2x2"}


@pytest.mark.slow
def test_requests_are_told_apart_by_the_engine_that_answered(job: Job) -> None:
    rows = pq.read_table(job.folder / "samples").to_pandas()
    behind = rows[(rows.topology == "tp2x2") & (rows.outcome == "ok")]
    visit = next(visit for visit in job.read("run.json")["visits"] if visit["topology"] == "tp2x2")
    assert len(set(behind.upstream)) == 2
    assert visit["server_after"]["requests_finished"] is not None  # both engines' pages were read


@pytest.mark.slow
def test_gpus_and_the_balancer_are_watched_through_their_own_pages(job: Job) -> None:
    telemetry = pq.read_table(job.folder / "telemetry.parquet").to_pandas()
    series = {name: set(rows.series) for name, rows in telemetry.groupby("source")}
    assert series["tp4/page0"] == {"gpu.memory_used_bytes"}
    assert "balancer.connections.active" in series["tp2x2/page1"]
    step = job.read("summary.json")["topologies"]["tp4"]["steps"][0]
    assert find(step, "gpu_memory_used_bytes_max") == 4 * 40 * 1024**3


def find(value: Any, key: str) -> Any:
    """The first value of this name, however deep."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        return next((found for inner in value.values() if (found := find(inner, key)) is not None), None)
    return None
