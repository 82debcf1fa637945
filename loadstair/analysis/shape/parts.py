"""A run that is no staircase: soaks and spikes by topology, and what they come to in words."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from loadstair.analysis.shape.soak import Soak, soak
from loadstair.analysis.shape.soak_findings import is_worse, soak_sentence
from loadstair.analysis.shape.spike import Spike, spike
from loadstair.analysis.shape.spike_findings import spike_sentence
from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.pool import JudgedStep
from loadstair.plan.model import Gpus, LoadMode, LoadShape, Plan
from loadstair.samples.frame import Samples
from loadstair.samples.readings import Telemetry
from loadstair.serving.catalogue import find_gpu


def soaks_of(
    plan: Plan, judged: Mapping[str, list[JudgedStep]], samples: Samples, telemetry: Telemetry
) -> dict[str, Soak | None]:
    """By topology; empty unless the plan is a soak."""
    if plan.load.shape is not LoadShape.SOAK:
        return {}
    return {
        topology.name: soak(
            judged[topology.name],
            samples,
            telemetry,
            gpu_memory_bytes=_gpu_memory_bytes(topology.gpus),
            topologies=len(plan.topologies),
        )
        for topology in plan.topologies
    }


def _gpu_memory_bytes(gpus: Gpus | None) -> float | None:
    known = None if gpus is None else find_gpu(gpus.type)
    return None if known is None else known.memory_mib * 2.0**20


def spikes_of(
    plan: Plan,
    judged: Mapping[str, list[JudgedStep]],
    samples: Samples,
    telemetry: Telemetry,
    rng: np.random.Generator,
) -> dict[str, Spike | None]:
    """By topology; empty unless the plan is a spike."""
    slo = plan.slo
    if plan.load.shape is not LoadShape.SPIKE or slo is None:
        return {}
    return {name: spike(steps, samples, telemetry, slo, rng) for name, steps in judged.items()}


def shape_findings(soaks: Mapping[str, Soak | None], spikes: Mapping[str, Spike | None]) -> tuple[Finding, ...]:
    """Those of all topologies, with its name in each."""
    return tuple(
        replace(finding, message=f"{name}: {finding.message}")
        for name, one in (*soaks.items(), *spikes.items())
        if one is not None
        for finding in one.findings
    )


def shape_advice(soaks: Mapping[str, Soak | None], spikes: Mapping[str, Spike | None], mode: LoadMode) -> str:
    """A sentence for each topology."""
    sentences = []
    for name, one in (*soaks.items(), *spikes.items()):
        match one:
            case None:
                sentences.append(f"{name} was not measured to the end: nothing can be said of it.")
            case Soak():
                worse = [series for series, claim in one.claims.items() if is_worse(series, claim)]
                sentences.append(soak_sentence(name, one.load, mode, one.hold_s, worse, valid=one.valid))
            case Spike():
                sentences.append(
                    spike_sentence(
                        name,
                        mode,
                        loads=(one.usual_load, one.surge_load),
                        valid=one.valid,
                        lost=one.lost_s.value is not None,
                        recovery_s=one.recovery_s,
                    )
                )
    return " ".join(sentences)
