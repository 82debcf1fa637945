"""Plans for the tests of this room."""

from pathlib import Path
from typing import Any

from loadstair.plan.model import Plan

SCRIPTED_SERVER = Path(__file__).with_name("scripted_server.py")
SIMULATED_MODEL = "Qwen/Qwen2.5-32B-Instruct"


def plan_of(*topologies: dict[str, Any], model: str = "tiny") -> Plan:
    return Plan.model_validate(
        {
            "name": "test",
            "workload": {"model": model, "input_tokens": 8, "output_tokens": 4},
            "load": {"steps": [1]},
            "topologies": list(topologies),
        }
    )


def process(behaviour: str = "good", **keys: Any) -> dict[str, Any]:
    return {
        "command": ["{python}", str(SCRIPTED_SERVER), "{port}", behaviour],
        "ready_url": "http://127.0.0.1:{port}/health",
        **keys,
    }


def processes(*behaviours: str, **keys: Any) -> dict[str, Any]:
    """A topology of scripted servers, one for each behaviour; nginx in front if there are several."""
    balancer = {"balancer": {"kind": "nginx"}} if len(behaviours) > 1 else {}
    return {
        "name": "arm",
        "kind": "processes",
        "ready_timeout_s": 20,
        "processes": [process(behaviour) for behaviour in behaviours],
        **balancer,
        **keys,
    }


def simulated(count: int = 2, **keys: Any) -> dict[str, Any]:
    return {
        "name": "sim",
        "kind": "simulated",
        "ready_timeout_s": 30,
        "gpus": {"type": "h100-sxm", "count": 2 * count},
        "engines": [{"tp": 2}] * count,
        **({"balancer": {"kind": "nginx"}} if count > 1 else {}),
        **keys,
    }
