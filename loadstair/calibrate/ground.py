"""The ground truth: a server on this machine that paces its answers and keeps a ledger of every token it sent.

The native one where there is a C compiler; else the simulated engine, which can't be faster than a Python process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadstair.calibrate.paced import PacedServer, can_run
from loadstair.calibrate.truth import Schedule
from loadstair.errors import LoadError, LoadstairError
from loadstair.plan.model import Engine, ExternalTopology, Gpus, Load, Plan, SimulatedTopology, Workload
from loadstair.samples.calibration import GroundTruth
from loadstair.simserver.ledger import LedgerEntry, read_ledger
from loadstair.topology.bring_up import bring_up
from loadstair.topology.running import RunningTopology
from loadstair.units import ns_from_s

NAME = "truth"
MODELS = {GroundTruth.NATIVE: "paced", GroundTruth.SIMULATED: "Qwen/Qwen2.5-32B-Instruct"}
"""The native server knows no other; the simulated engine takes 10 to 20 ms for a token of this one."""
SIMULATED_GPUS = Gpus(type="h100-sxm", count=4)
SIMULATED_USERS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What one staircase asks of its server. A simulated engine has a pace of its own."""

    ttft_ms: float
    gap_ms: float

    @property
    def schedule(self) -> Schedule:
        return Schedule(ttft_ns=ns_from_s(self.ttft_ms / 1e3), gap_ns=ns_from_s(self.gap_ms / 1e3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    kind: GroundTruth
    topology: RunningTopology
    ledger_path: Path
    schedule: Schedule | None
    """None: the server follows a model of its own."""

    def ledger(self) -> dict[str, LedgerEntry]:
        """By request id, of what has been written until now. Raises LoadError."""
        try:
            return {entry.request_id: entry for entry in read_ledger(self.ledger_path)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LoadError(f"the ground truth's ledger cannot be read: {error}") from error


def available() -> GroundTruth:
    """Compiles the native server, if need be. Raises LoadError where its source does not compile."""
    with _as_load_error():
        return GroundTruth.NATIVE if can_run() else GroundTruth.SIMULATED


@contextmanager
def ground_truth(
    kind: GroundTruth, pace: Pace, *, workload: Workload, load: Load, log_dir: Path, number: int
) -> Iterator[Ground]:
    """Answering when the block begins, gone when it ends. `number` keeps the files of several apart."""
    match kind:
        case GroundTruth.NATIVE:
            ledger = log_dir / f"{number}-{NAME}.ledger.jsonl"
            with _as_load_error(), PacedServer(ttft_ms=pace.ttft_ms, gap_ms=pace.gap_ms, ledger=ledger) as server:
                topology: ExternalTopology | SimulatedTopology = ExternalTopology(
                    name=NAME, kind="external", url=server.url
                )
                with _up(topology, workload, load, log_dir, number) as running:
                    yield Ground(kind=kind, topology=running, ledger_path=ledger, schedule=pace.schedule)
        case GroundTruth.SIMULATED:
            engine = Engine(tp=SIMULATED_GPUS.count, flags={"max_num_seqs": SIMULATED_USERS_MAX})
            topology = SimulatedTopology(name=NAME, kind="simulated", gpus=SIMULATED_GPUS, engines=(engine,))
            with _up(topology, workload, load, log_dir, number) as running:
                (replica,) = running.endpoint.replicas
                assert replica.ledger is not None
                yield Ground(kind=kind, topology=running, ledger_path=replica.ledger, schedule=None)


@contextmanager
def _as_load_error() -> Iterator[None]:
    """What goes wrong with the native server itself ends a calibration as any process of its does."""
    try:
        yield
    except LoadstairError as error:
        if type(error) is LoadstairError:
            raise LoadError(str(error)) from error
        raise


@contextmanager
def _up(
    topology: ExternalTopology | SimulatedTopology, workload: Workload, load: Load, log_dir: Path, number: int
) -> Iterator[RunningTopology]:
    plan = Plan(name="calibrate", workload=workload, load=load, topologies=(topology,))
    with bring_up(topology, plan=plan, plan_dir=log_dir, log_dir=log_dir, visit=number) as running:
        yield running
