"""From a run's files to its summary: every number of the report, with its interval and its findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from loadstair.analysis.advice import advice
from loadstair.analysis.comparison.alike import differences, unequal
from loadstair.analysis.comparison.arm import Arm
from loadstair.analysis.comparison.compare import Comparison, Side, compare
from loadstair.analysis.matrix.values import MatrixSummary, matrix_summary, matrix_values
from loadstair.analysis.shape.parts import shape_advice, shape_findings, soaks_of, spikes_of
from loadstair.analysis.shape.soak import Soak
from loadstair.analysis.shape.spike import RECOVERY, Spike
from loadstair.analysis.shape.values import soak_values, spike_values
from loadstair.analysis.sizing import EngineMemory, memory_values, topology_memory
from loadstair.analysis.staircase.capacity import Capacity, capacity
from loadstair.analysis.staircase.energy import Energy, energy
from loadstair.analysis.staircase.failure_point import FailurePoint, failure_point
from loadstair.analysis.staircase.foretold import Foretold, foretold, parting
from loadstair.analysis.staircase.timeline import Timeline, timeline
from loadstair.analysis.statistics.estimate import Finding, Severity
from loadstair.analysis.step.ceiling import Ceiling, ceiling_values, judge_against, run_ceiling, run_findings
from loadstair.analysis.step.measure import measure_visit
from loadstair.analysis.step.plausible import step_ceiling
from loadstair.analysis.step.pool import JudgedStep, LoadStep, pool_load
from loadstair.analysis.step.slo import RequestLimits, request_limits
from loadstair.analysis.step.verdict import ONE_REPEAT, judge_plan, judge_step, judge_visit, unchecked_books
from loadstair.analysis.summary_values import (
    Values,
    comparison_values,
    finding_values,
    threshold_values,
    timeline_values,
    topology_values,
    workload_values,
)
from loadstair.analysis.thresholds import ThresholdResult, judge_threshold
from loadstair.plan.model import ExternalTopology, Gpus, LoadMode, LoadShape, Plan, TopologyPlan, Workload
from loadstair.plan.threshold import parse_threshold
from loadstair.samples.frame import Samples
from loadstair.samples.readings import Telemetry
from loadstair.samples.runrecord import Ending, RunRecord, VisitRecord

SUMMARY_SCHEMA = 1
TLS_UNVERIFIED = "tls.unverified"
PREDICTED = "Predicted, not measured: "
"""Begins a forecast's answer, wherever it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySummary:
    name: str
    kind: str
    gpus: Gpus | None
    steps: tuple[LoadStep, ...]
    """In the order of their load; empty if it was never measured."""
    capacity: Capacity
    energy: Energy
    timeline: Timeline | None
    physical_ceilings: Mapping[float, float]
    """By load, the output tokens/s that the GPUs can do at all at what was under way; only where that is known."""
    predicted: Foretold
    """Beside what was measured; empty in a forecast."""
    failure: FailurePoint | None
    stopped: tuple[str, ...]
    """Why staircases ended before their last step; each reason once, whatever the repeat."""

    @property
    def has_valid_step(self) -> bool:
        return any(step.valid for step in self.steps)

    def values(self) -> Values:
        values = topology_values(
            self.steps,
            self.capacity,
            self.gpus,
            self.energy,
            self.physical_ceilings,
            self.failure,
            self.predicted,
        )
        return {**values, "stopped": list(self.stopped)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    run: RunRecord
    mode: LoadMode
    workload: Workload
    topologies: Mapping[str, TopologySummary]
    """In the plan's order."""
    comparisons: tuple[Comparison, ...]
    thresholds: tuple[ThresholdResult, ...]
    diagnosis: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    """Of the whole run; a step's own stand with the step."""
    advice: str
    ceiling: Ceiling | None
    """The load generator's own; None where it was never calibrated."""
    shape: LoadShape
    soaks: Mapping[str, Soak | None]
    """By topology, None where it was never measured; empty unless the plan's shape is soak."""
    spikes: Mapping[str, Spike | None]
    """Likewise."""
    matrix: MatrixSummary | None
    """None unless the plan has a matrix; a topology then has no steps."""
    memory: Mapping[str, tuple[EngineMemory, ...]]
    """By topology; empty where model, GPUs or engines are not known."""

    @property
    def topologies_without_valid_step(self) -> tuple[str, ...]:
        if self.matrix is not None:
            return self.matrix.topologies_without_valid_test
        return tuple(name for name, topology in self.topologies.items() if not topology.has_valid_step)


def summarize(run: RunRecord, plan: Plan, samples: Samples, telemetry: Telemetry, rng: np.random.Generator) -> Summary:
    """The same inputs and the same state of `rng` give the same summary."""
    limits = None if plan.slo is None else request_limits(plan.slo)
    ceiling = run_ceiling(run)
    judged: dict[str, list[JudgedStep]] = {topology.name: [] for topology in plan.topologies}
    for visit in run.visits:
        if visit.topology in judged:
            judged[visit.topology] += _judge(visit, plan, samples, telemetry, limits, ceiling)
    topologies = {
        topology.name: _topology(
            topology,
            judged[topology.name] if plan.matrix is None else [],  # bursts are no steps of a staircase
            plan,
            run,
            samples,
            telemetry,
            rng,
        )
        for topology in plan.topologies
    }
    soaks = soaks_of(plan, judged, samples, telemetry)
    spikes = spikes_of(plan, judged, samples, telemetry, rng)
    first, *others = topologies.values()
    matrix = None if plan.matrix is None else matrix_summary(plan.matrix, judged, samples, run, rng)
    if plan.load.shape is LoadShape.SPIKE or matrix is not None:
        others = []  # a surge is no steady load: there is no throughput or latency of it to compare
    arms = {plan_of.name: _arm(plan_of, topologies[plan_of.name], run) for plan_of in plan.topologies}
    apart = {other.name: unequal(arms[first.name], arms[other.name]) for other in others}
    comparisons = tuple(
        compare(
            _side(first),
            _side(other),
            rng,
            differences(arms[first.name], arms[other.name], plan),
            unequal=bool(apart[other.name]),
        )
        for other in others
        if plan.compare_unequal or not apart[other.name]
    )
    values = {
        "topologies": {name: one.values() for name, one in topologies.items()},
        "comparisons": {f"{one.other}_vs_{one.first}": comparison_values(one) for one in comparisons},
        "soak": {name: soak_values(one) for name, one in soaks.items()},
        "spike": {name: spike_values(one) for name, one in spikes.items()},
        "matrix": {} if matrix is None else matrix_values(matrix),
    }
    told_by_shape = None if matrix is None else matrix.advice
    if plan.load.shape is not LoadShape.STAIRCASE:
        told_by_shape = shape_advice(soaks, spikes, plan.load.mode)
    return Summary(
        run=run,
        mode=plan.load.mode,
        workload=plan.workload,
        topologies=topologies,
        comparisons=comparisons,
        thresholds=tuple(judge_threshold(parse_threshold(text), values) for text in plan.thresholds),
        diagnosis=(),
        findings=(
            *_ending(run),
            *_stopped(topologies),
            *(_predicted(run) if run.predicted else _simulated(topologies)),
            *_unverified(plan),
            *(_judge_plan(plan, run) if matrix is None else matrix.findings),
            *unchecked_books(run.visits),
            *_partings(topologies, plan.load.mode),
            *run_findings(ceiling, {name: one.steps for name, one in topologies.items()}),
            *(_not_compared(why) for why in apart.values() if why and not plan.compare_unequal),
            *shape_findings(soaks, spikes),
        ),
        advice=(PREDICTED if run.predicted else "")
        + (
            told_by_shape
            if told_by_shape is not None
            else advice({name: one.capacity for name, one in topologies.items()}, comparisons, plan.load.mode)
        ),
        ceiling=ceiling,
        shape=plan.load.shape,
        soaks=soaks,
        spikes=spikes,
        matrix=matrix,
        memory={topology.name: topology_memory(topology, plan) for topology in plan.topologies},
    )


def summary_json(summary: Summary) -> dict[str, object]:
    """What summary.json holds. No NaN: what is unknown is null."""
    run = summary.run
    return {
        "schema": SUMMARY_SCHEMA,
        "name": run.name,
        "started": run.started,
        "loadstair_version": run.loadstair_version,
        "ending": str(run.ending),
        "ending_message": run.ending_message,
        "quick": run.quick,
        "predicted": run.predicted,
        "seed": run.seed,
        "mode": str(summary.mode),
        "shape": str(summary.shape),
        "workload": workload_values(summary.workload),
        "generator": ceiling_values(summary.ceiling, {name: one.steps for name, one in summary.topologies.items()}),
        "advice": summary.advice,
        "topologies": {name: {"kind": one.kind, **one.values()} for name, one in summary.topologies.items()},
        "timelines": {name: timeline_values(one.timeline) for name, one in summary.topologies.items()},
        "soak": {name: soak_values(one) for name, one in summary.soaks.items()} or None,
        "spike": {name: spike_values(one) for name, one in summary.spikes.items()} or None,
        "matrix": None if summary.matrix is None else matrix_values(summary.matrix),
        "sizing": {name: memory_values(groups) for name, groups in summary.memory.items()},
        "comparisons": {f"{one.other}_vs_{one.first}": comparison_values(one) for one in summary.comparisons},
        "thresholds": [threshold_values(result) for result in summary.thresholds],
        "topologies_without_valid_step": list(summary.topologies_without_valid_step),
        "diagnosis": [finding_values(finding) for finding in summary.diagnosis],
        "findings": [finding_values(finding) for finding in summary.findings],
    }


def _judge(
    visit: VisitRecord,
    plan: Plan,
    samples: Samples,
    telemetry: Telemetry,
    limits: RequestLimits | None,
    ceiling: Ceiling | None,
) -> list[JudgedStep]:
    own = samples.take(np.flatnonzero((samples.requests["visit"] == visit.visit).to_numpy(dtype=bool)))
    shared = judge_visit(visit, own)
    if any(step.workers_lost for step in visit.steps):
        # A lost worker's records explain the difference, and the loss invalidates the steps from there on by itself.
        shared = tuple(replace(finding, severity=Severity.WARNING) for finding in shared)
    return [
        JudgedStep(step=step, findings=(*judge_step(step, plan), *judge_against(ceiling, step), *shared))
        for step in measure_visit(visit, own, telemetry, limits)
    ]


def _timeline(run: RunRecord, topology: str, samples: Samples, telemetry: Telemetry) -> Timeline | None:
    return timeline(tuple(visit for visit in run.visits if visit.topology == topology), samples, telemetry)


def _topology(
    topology: TopologyPlan,
    judged: list[JudgedStep],
    plan: Plan,
    run: RunRecord,
    samples: Samples,
    telemetry: Telemetry,
    rng: np.random.Generator,
) -> TopologySummary:
    is_spike = plan.load.shape is LoadShape.SPIKE
    if is_spike:
        judged = _spike_steps(judged)
    loads = sorted({one.step.record.load for one in judged})
    steps = tuple(
        pool_load(tuple(one for one in judged if one.step.record.load == load), plan.slo, rng) for load in loads
    )
    return TopologySummary(
        name=topology.name,
        kind=topology.kind,
        gpus=topology.gpus,
        steps=steps,
        capacity=capacity(() if is_spike else steps, topology.gpus, rng),
        energy=energy(steps, topology.gpus, rng),
        timeline=_timeline(run, topology.name, samples, telemetry),
        physical_ceilings=_physical_ceilings(steps, topology, plan.workload),
        predicted=foretold(run, topology.name),
        failure=None if is_spike else failure_point(steps, samples, run),
        stopped=tuple(
            dict.fromkeys(
                visit.stopped for visit in run.visits if visit.topology == topology.name and visit.stopped is not None
            )
        ),
    )


def _spike_steps(judged: Sequence[JudgedStep]) -> list[JudgedStep]:
    """Of each repeat's last visit: one that broke off was taken as a whole again. Without the recovery, which is the
    usual load after the surge and must not be pooled with the same load before it."""
    last = {one.step.visit.repeat: one.step.visit.visit for one in judged}
    return [
        one
        for one in judged
        if one.step.visit.visit == last[one.step.visit.repeat] and one.step.record.step != RECOVERY
    ]


def _physical_ceilings(steps: Sequence[LoadStep], topology: TopologyPlan, workload: Workload) -> dict[float, float]:
    """Means over the visits that a step is pooled from."""
    found = {step.load: [step_ceiling(one, topology, workload) for one in step.pooled] for step in steps}
    return {
        load: fmean(one.output_tokens_per_s for one in ceilings if one is not None)
        for load, ceilings in found.items()
        if ceilings and None not in ceilings
    }


def _arm(plan: TopologyPlan, topology: TopologySummary, run: RunRecord) -> Arm:
    return Arm(topology=plan, fingerprint=run.topologies.get(plan.name, {}), steps=topology.steps)


def _simulated(topologies: Mapping[str, TopologySummary]) -> tuple[Finding, ...]:
    names = [name for name, one in topologies.items() if one.kind == "simulated"]
    if not names:
        return ()
    what = "is a simulated engine" if len(names) == 1 else "are simulated engines"
    return (
        Finding.info(
            "topology.simulated",
            f"{' and '.join(names)} {what}: a forecast by a model of the GPU, with the load and the clock real",
        ),
    )


def _predicted(run: RunRecord) -> tuple[Finding, ...]:
    what = (
        "nothing was measured: a model of scheduler and step times under the plan's load, in simulated time; it knows "
        "neither network nor load generator, nor what else the real engines do"
    )
    notes = [Finding.info("forecast.note", note) for note in run.notes]
    return (Finding.info("forecast.predicted", what), *notes)


def _judge_plan(plan: Plan, run: RunRecord) -> tuple[Finding, ...]:
    """More repeats would tell nothing more of a forecast."""
    return tuple(one for one in judge_plan(plan.workload, plan.load) if not run.predicted or one.id != ONE_REPEAT)


def _partings(topologies: Mapping[str, TopologySummary], mode: LoadMode) -> tuple[Finding, ...]:
    found = (parting(name, one.steps, one.predicted, mode) for name, one in topologies.items())
    return tuple(one for one in found if one is not None)


def _unverified(plan: Plan) -> tuple[Finding, ...]:
    names = [
        topology.name
        for topology in plan.topologies
        if isinstance(topology, ExternalTopology) and topology.url.startswith("https://") and not topology.tls.verify
    ]
    if not names:
        return ()
    return (
        Finding.warning(
            TLS_UNVERIFIED,
            f"the certificate of {' and '.join(names)} was not verified (tls.verify: false): anyone on the way could "
            "have answered in its place; to verify it, name its CA's file in tls.ca",
        ),
    )


def _not_compared(why: tuple[str, ...]) -> Finding:
    return Finding.warning(
        "compare.unequal",
        f"{'; '.join(why)}: they are no alternatives and not compared; set compare_unequal: true to compare them all "
        "the same",
    )


def _side(topology: TopologySummary) -> Side:
    return Side(
        name=topology.name,
        steps=topology.steps,
        gpus=topology.gpus,
        cut_off=topology.capacity.cut_off,
        per_joule={load: one.output_tokens_per_joule for load, one in topology.energy.by_load.items()},
    )


def _stopped(topologies: Mapping[str, TopologySummary]) -> tuple[Finding, ...]:
    why = "the steps above were left out; load.stop_early: false takes them"
    told = [f"{name}: {reason}: {why}" for name, one in topologies.items() for reason in one.stopped]
    return tuple(Finding.info("staircase.stopped", message) for message in told)


def _ending(run: RunRecord) -> tuple[Finding, ...]:
    warnings = [Finding.warning("run.warning", message) for message in run.warnings]
    if run.resumed:
        times = " and ".join(run.resumed)
        warnings.insert(
            0,
            Finding.info(
                "run.resumed",
                f"the run ended early and was resumed at {times}: another visit took the steps that the broken one "
                "lacked",
            ),
        )
    if run.ending is not Ending.COMPLETE:
        why = f": {run.ending_message}" if run.ending_message else ""
        killed = run.ending is Ending.RUNNING
        ending = "killed, or still measuring" if killed else run.ending.value.replace("_", " ")
        message = f"the run did not complete ({ending}){why}; what was measured until then is shown"
        warnings.insert(0, Finding.warning("run.incomplete", message))
    return tuple(warnings)
