"""How long a step is simulated, and single steps without a run folder: throughput and median latencies alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadstair.clock import Deadline
from loadstair.forecast.delays import SERVED
from loadstair.forecast.fleet import Fleet
from loadstair.forecast.load import SimulatedLoad
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import LoadMode, LoadShape, Plan, TopologyPlan
from loadstair.plan.staircase import Visit, growth_s, warmup_s_longest
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import PredictedStep

TOKENS_PER_HOLD: Final = 30_000
"""Output tokens that a staircase's hold simulates at most: 0.1 s of a core."""
TOKENS_PER_SHAPE: Final = 1_000_000
"""The same of a soak or a spike, which are about time."""
REQUESTS_PER_HOLD: Final = 1.5
"""Times that each user's request fits into a hold, however many tokens that takes."""
HOLD_S_BESIDE: Final = 60.0
"""At most, whatever the plan's hold is: the plan saves time that a simulation does not spend. Few users need it."""
TICK_S: Final = 0.25
TOKENS_IN_ALL: Final = 3_000_000
"""Of such a forecast, over all steps of a topology: the loads above are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """One load in simulated time. Latencies are None where no request of the hold would have begun and ended."""

    load: float
    output_tokens_per_s: float
    ttft_ms_p50: float | None
    tpot_ms_p50: float | None


def hold_s_max(plan: Plan, fleet: Fleet, load: float) -> float:
    """How long holding a step of this load tells something new: beyond it a plan's hold is not simulated."""
    tokens = TOKENS_PER_HOLD if plan.load.shape is LoadShape.STAIRCASE else TOKENS_PER_SHAPE
    return _hold_s_max(plan, fleet, load, tokens)


def _hold_s_max(plan: Plan, fleet: Fleet, load: float, tokens: int) -> float:
    least_s = REQUESTS_PER_HOLD * fleet.request_s(plan, load)
    return max(least_s, tokens / _tokens_per_s(plan, fleet, load))


def _tokens_per_s(plan: Plan, fleet: Fleet, load: float) -> float:
    """Output tokens that are asked for."""
    requests_per_s = load if plan.load.mode is LoadMode.OPEN else load / fleet.request_s(plan, load)
    return requests_per_s * plan.workload.output_tokens.mean


def predicted(
    fleet: Fleet, topology: TopologyPlan, plan: Plan, arrivals: Arrivals | None, loads: Sequence[float]
) -> list[PredictedStep]:
    """As a run record keeps what `foretold` says."""
    return [
        PredictedStep(
            topology=topology.name,
            load=one.load,
            output_tokens_per_s=one.output_tokens_per_s,
            ttft_ms_p50=one.ttft_ms_p50,
        )
        for one in foretold(fleet, topology, plan, arrivals, loads)
    ]


def foretold(
    fleet: Fleet, topology: TopologyPlan, plan: Plan, arrivals: Arrivals | None, loads: Sequence[float]
) -> list[Foretold]:
    """One after the other, as a visit climbs them; `loads` must rise. The highest are missing where all of them would
    take more than a few seconds."""
    simulated = SimulatedLoad(fleet, Visit(visit=0, repeat=0, topology=topology), plan, arrivals, SERVED, start_ns=0)
    found: list[Foretold] = []
    for step, load in enumerate(loads):
        hold_s = min(HOLD_S_BESIDE, _hold_s_max(plan, fleet, load, TOKENS_PER_HOLD))
        rate = _tokens_per_s(plan, fleet, load)
        if simulated.status().tokens + rate * (hold_s + plan.load.warmup_s) > TOKENS_IN_ALL:
            break
        found.append(_one(simulated, plan, step, load, hold_s))
    return found


def _one(simulated: SimulatedLoad, plan: Plan, step: int, load: float, hold_s: float) -> Foretold:
    simulated.begin_step(step=step, load=load, users=round(load), growth_s=growth_s(plan.load))
    # As long as a hold, so that every user's first request has ended, but no longer than the plan allows.
    simulated.clock.sleep_s(max(plan.load.warmup_s, min(hold_s, warmup_s_longest(plan.load))))
    simulated.set_phase(Phase.HOLD)
    before = simulated.status().tokens
    simulated.clock.sleep_s(hold_s)
    tokens = simulated.status().tokens - before
    simulated.set_phase(Phase.TAIL)
    _until_ended(simulated, plan.load.tail_s_max)
    return Foretold(
        load=load,
        output_tokens_per_s=tokens / hold_s,
        ttft_ms_p50=simulated.status().latencies.ttft_ms_p50,
        tpot_ms_p50=simulated.hold_tpot_ms_p50(),
    )


def _until_ended(simulated: SimulatedLoad, longest_s: float) -> None:
    """Until the hold's requests have: the slowest must not be missing among the latencies."""
    deadline = Deadline.after_s(longest_s, simulated.clock.monotonic_ns)
    while simulated.status().in_flight_hold and not deadline.passed():
        simulated.clock.sleep_s(TICK_S)
