"""Plans that can be foretold, small ones."""

from typing import Any

from loadstair.forecast.delays import Delays
from loadstair.forecast.fleet import Fleet, fleet_of
from loadstair.forecast.load import SimulatedLoad
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import Plan
from loadstair.plan.staircase import Visit

MODEL = "Qwen/Qwen2.5-32B-Instruct"
GPUS = {"type": "h100-sxm", "count": 4}
NO_DELAYS = Delays(to_engine_ns=0, to_client_ns=0, turnaround_ns=0, balancer_ns=0)
TP4 = {"name": "tp4", "kind": "simulated", "gpus": GPUS, "engines": [{"tp": 4}]}
TWO_TP2 = {
    "name": "tp2x2",
    "kind": "simulated",
    "gpus": GPUS,
    "engines": [{"tp": 2}, {"tp": 2}],
    "balancer": {"policy": "round_robin"},
}


def plan_of(*topologies: dict[str, Any], load: dict[str, Any] | None = None, **others: Any) -> Plan:
    raw = {
        "name": "told",
        "seed": 5,
        "workload": {
            "model": MODEL,
            "input_tokens": {"mean": 128, "cv": 0.15},
            "output_tokens": {"mean": 32, "cv": 0.3},
        },
        "load": {"steps": [2, 8], "warmup_s": 1, "hold_s": 4, "cooldown_s": 0, **(load or {})},
        "topologies": list(topologies or (TP4,)),
        **others,
    }
    return Plan.model_validate(raw)


def known_fleet(plan: Plan, place: int = 0) -> Fleet:
    fleet = fleet_of(plan, plan.topologies[place])
    assert isinstance(fleet, Fleet)
    return fleet


def load_of(
    plan: Plan, *, place: int = 0, repeat: int = 0, arrivals: Arrivals | None = None, delays: Delays = NO_DELAYS
) -> SimulatedLoad:
    visit = Visit(visit=0, repeat=repeat, topology=plan.topologies[place])
    return SimulatedLoad(known_fleet(plan, place), visit, plan, arrivals, delays, start_ns=0)
