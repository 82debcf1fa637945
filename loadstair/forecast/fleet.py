"""A plan's topology as engines that can be foretold, or what is missing for that."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from loadstair.errors import UsageError
from loadstair.forecast.balancer import Policy, picker
from loadstair.forecast.cluster import Cluster
from loadstair.forecast.delays import Delays
from loadstair.forecast.simulated_time import SimulatedTime
from loadstair.plan.flags import SIMULATED_FLAGS, option_words
from loadstair.plan.model import (
    Balancer,
    Engine,
    LoadMode,
    Plan,
    ProcessesTopology,
    SimulatedTopology,
    TopologyPlan,
    Workload,
)
from loadstair.plan.pools import Pools, is_pooled, pool_problems, pools_of
from loadstair.plan.rules import EXPECTED_IN_FLIGHT_MAX, LITTLE_ROUNDS
from loadstair.serving.catalogue import find_gpu, find_model, gpu_names
from loadstair.serving.efficiencies import Efficiencies
from loadstair.serving.memory import kv_bytes_per_token
from loadstair.serving.steptime import expected_request_s
from loadstair.simserver.disaggregation import KvLink, PrefillDecode
from loadstair.simserver.options import Options, parse_options
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.stopping import draw_stop_after
from loadstair.simserver.timed import Service, TimedEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The engines of one topology, and what stands before them."""

    topology: str
    kind: str
    engines: tuple[Options, ...]
    policy: Policy | None
    """None: one engine, or pools, asked directly."""
    pools: Pools | None = None
    """None: every engine computes prompts and tokens."""
    notes: tuple[str, ...]
    """What the plan says and the model does not know, a line each."""

    def cluster(self, time: SimulatedTime, delays: Delays, *, seed: int) -> Cluster:
        chosen = None if self.policy is None else picker(self.policy, len(self.engines), seed=seed)
        return Cluster(
            self._services(),
            chosen,
            time,
            delays,
            context_tokens_max=min(engine.max_model_len for engine in self.engines),
        )

    def _services(self) -> list[Service]:
        schedulers = [Scheduler(engine.scheduler) for engine in self.engines]
        if self.pools is None:
            return [TimedEngine(scheduler) for scheduler in schedulers]
        first = self.engines[self.pools.prefill[0]]
        link = KvLink(
            kv_bytes_per_token=kv_bytes_per_token(first.model, first.scheduler.step_model.formats),
            bytes_per_s=self.pools.transfer_gb_per_s * 1e9,
        )
        prefill = tuple(schedulers[place] for place in self.pools.prefill)
        decode = tuple(schedulers[place] for place in self.pools.decode)
        return [PrefillDecode(prefill, decode, link)]

    def request_s(self, plan: Plan, load: float) -> float:
        """About how long one request takes, in closed form. Of an open loop as many are under way as come in that time
        (Little's law)."""
        if plan.load.mode is LoadMode.CLOSED:
            return self._request_s(plan.workload, load)
        users = 1.0
        for _ in range(LITTLE_ROUNDS):
            users = min(max(1.0, load * self._request_s(plan.workload, users)), EXPECTED_IN_FLIGHT_MAX)
        return self._request_s(plan.workload, users)

    def _request_s(self, workload: Workload, users: float) -> float:
        """Of pools as if the decode engines did all of it."""
        answering = self.engines if self.pools is None else [self.engines[place] for place in self.pools.decode]
        first = answering[0]
        alone_s = expected_request_s(
            first.model,
            first.gpu,
            first.tp,
            first.link,
            engines=len(answering),
            concurrent=users,
            input_tokens=workload.input_tokens.mean,
            output_tokens=workload.output_tokens.mean,
            max_num_seqs=first.scheduler.max_num_seqs,
            formats=first.scheduler.step_model.formats,
            efficiencies=first.scheduler.step_model.efficiencies,
        )
        return alone_s / first.scheduler.speed / first.scheduler.gpu_share

    def with_efficiencies(self, efficiencies: Efficiencies) -> "Fleet":
        """The same engines with other constants of their step times."""
        engines = [
            replace(engine, scheduler=replace(engine.scheduler, step_model=step_model))
            for engine in self.engines
            for step_model in (engine.scheduler.step_model.with_efficiencies(efficiencies),)
        ]
        return replace(self, engines=tuple(engines))

    def stop_after(self, workload: Workload, *, seed: int, number: int) -> int | None:
        """Where the answer to the n-th request ends by itself; None if it never does."""
        return None if workload.ignore_eos else draw_stop_after(seed=seed, number=number, min_tokens=0)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "predicted": True,
            "engines": [
                {
                    "model": engine.model.name,
                    "gpu": engine.gpu.name,
                    "tp": engine.tp,
                    "link": engine.link,
                    "max_num_seqs": engine.scheduler.max_num_seqs,
                    "max_num_batched_tokens": engine.scheduler.max_num_batched_tokens,
                    "kv_tokens": engine.scheduler.kv_tokens,
                }
                for engine in self.engines
            ],
            "balancer": None if self.policy is None else {"policy": self.policy},
            "pools": None if self.pools is None else asdict(self.pools),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A topology that cannot be foretold."""

    topology: str
    why: str


def fleet_of(plan: Plan, topology: TopologyPlan) -> Fleet | Unknown:
    if find_model(plan.workload.model) is None:
        return Unknown(topology=topology.name, why=f"{plan.workload.model} is not in the catalogue of models")
    if topology.gpus is None:
        return Unknown(topology=topology.name, why="it has no gpus: type and count are needed")
    if find_gpu(topology.gpus.type) is None:
        known = ", ".join(gpu_names())
        return Unknown(topology=topology.name, why=f"GPU {topology.gpus.type} is not in the catalogue; known: {known}")
    if not topology.engines:
        return Unknown(topology=topology.name, why="it has no engines: the tp of each is needed, and flags if any")
    wrong = next(pool_problems(topology.engines, "", has_balancer=_balancer(topology) is not None), None)
    if wrong is not None:
        return Unknown(topology=topology.name, why=f"{wrong.path.lstrip('.')}: {wrong.message}")
    try:
        engines = tuple(_options(plan, topology, engine) for engine in topology.engines)
    except UsageError as error:
        return Unknown(topology=topology.name, why=str(error).removeprefix("simserver: "))
    return Fleet(
        topology=topology.name,
        kind=topology.kind,
        engines=engines,
        policy=_policy(topology),
        pools=pools_of(topology.engines),
        notes=tuple(_notes(topology)),
    )


def _options(plan: Plan, topology: TopologyPlan, engine: Engine) -> Options:
    """Through the simulated engine's own command line: what is foretold is what it would serve. Raises UsageError."""
    assert topology.gpus is not None
    words = ["--model", plan.workload.model, "--gpu", topology.gpus.type, "--tp", str(engine.tp)]
    if topology.gpus.link is not None:
        words += ["--link", topology.gpus.link]
    known = {flag: value for flag, value in engine.flags.items() if flag in SIMULATED_FLAGS}
    return parse_options([*words, *option_words(known)])


def _policy(topology: TopologyPlan) -> Policy | None:
    balancer = _balancer(topology)
    if balancer is not None:
        return balancer.policy
    return "round_robin" if _lacks_balancer(topology) else None


def _lacks_balancer(topology: TopologyPlan) -> bool:
    several = len(topology.engines) > 1 and not is_pooled(topology.engines)
    return several and _balancer(topology) is None


def _balancer(topology: TopologyPlan) -> Balancer | None:
    return topology.balancer if isinstance(topology, SimulatedTopology | ProcessesTopology) else None


def _notes(topology: TopologyPlan) -> list[str]:
    name = topology.name
    unknown = sorted({flag for engine in topology.engines for flag in engine.flags} - set(SIMULATED_FLAGS))
    notes = (
        [f"{name}: the forecast ignores {', '.join(unknown)}: its model of an engine has no such flag"]
        if unknown
        else []
    )
    if _lacks_balancer(topology):
        notes.append(f"{name}: its balancer is not known; the forecast takes round robin")
    return notes
