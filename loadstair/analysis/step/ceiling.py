"""The load generator's own ceiling, as `loadstair calibrate` found it on the machine of the run, against its steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadstair.analysis.statistics.estimate import Finding
from loadstair.analysis.step.measure import VisitStep
from loadstair.analysis.step.pool import LoadStep
from loadstair.samples.calibration import Calibration, GroundTruth
from loadstair.samples.runrecord import RunRecord
from loadstair.units import NS_PER_MS

NEAR_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """Of all workers of the run together."""

    calibration: Calibration
    workers: int
    """That count: no more than the machine has cores. Where steps had different numbers, the fewest."""

    @property
    def found(self) -> bool:
        """Whether it is the generator's own. The simulated engine gives out long before: then nothing is known but
        that it lies higher."""
        return self.calibration.ground_truth is GroundTruth.NATIVE

    @property
    def chunks_per_s(self) -> float:
        return self.calibration.chunks_per_s * self.workers

    @property
    def requests_per_s(self) -> float:
        return self.calibration.requests_per_s * self.workers


def run_ceiling(run: RunRecord) -> Ceiling | None:
    """None without a calibration, or without a step."""
    counts = [len(step.workers) for visit in run.visits for step in visit.steps if step.workers]
    if run.calibration is None or not counts:
        return None
    return Ceiling(calibration=run.calibration, workers=min(*counts, run.calibration.cores))


def judge_against(ceiling: Ceiling | None, step: VisitStep) -> Iterator[Finding]:
    """A warning: stamps of the kernel stay true, but nobody has checked that at such a rate."""
    if ceiling is None or not ceiling.found:
        return
    for rate, most, what in _rates(ceiling, step):
        if rate > most:
            yield Finding.warning(
                f"generator.ceiling.{what.split()[-1]}",
                f"{rate:,.0f} {what}/s are beyond the {most:,.0f} that {_who(ceiling)} carried in "
                "`loadstair calibrate`: add workers or hosts",
            )


def run_findings(ceiling: Ceiling | None, topologies: Mapping[str, Sequence[LoadStep]]) -> tuple[Finding, ...]:
    """Of the whole run: where the generator was beyond its ceiling, and where near it."""
    if ceiling is None or not ceiling.found:
        return ()
    findings = []
    if where := _where(ceiling, topologies, _is_beyond):
        message = f"the load generator was beyond its ceiling (`loadstair calibrate`): {where}; add workers or hosts"
        findings.append(Finding.warning("generator.beyond_ceiling", message))
    if where := _where(ceiling, topologies, _is_near):
        message = f"the load generator was above {NEAR_SHARE:.0%} of its ceiling: {where}; add workers to go higher"
        findings.append(Finding.info("generator.near_ceiling", message))
    return tuple(findings)


def _where(
    ceiling: Ceiling, topologies: Mapping[str, Sequence[LoadStep]], is_so: Callable[[Ceiling, VisitStep], bool]
) -> str:
    """`tp4 at 64, 128; tp2x2 at 128`; empty where no step is so."""
    places = []
    for name, steps in topologies.items():
        loads = [step.load for step in steps if any(is_so(ceiling, one) for one in step.pooled)]
        if loads:
            places.append(f"{name} at {', '.join(f'{load:g}' for load in loads)}")
    return "; ".join(places)


def ceiling_values(ceiling: Ceiling | None, topologies: Mapping[str, Sequence[LoadStep]]) -> dict[str, object] | None:
    """For summary.json. Times in ms are the p99 of the absolute error at the ceiling; null where unknown.

    `ceiling_tokens_per_s`: with as many tokens in a chunk as this run had.
    """
    if ceiling is None:
        return None
    calibration = ceiling.calibration
    at = calibration.ceiling
    return {
        "ceiling_chunks_per_s": ceiling.chunks_per_s,
        "ceiling_tokens_per_s": ceiling.chunks_per_s * _tokens_per_chunk(topologies),
        "ceiling_requests_per_s": ceiling.requests_per_s,
        "ceiling_chunks_per_s_per_worker": calibration.chunks_per_s,
        "ceiling_requests_per_s_per_worker": calibration.requests_per_s,
        "workers": ceiling.workers,
        "ttft_error_ms_p99": None if at.ttft is None else at.ttft.error.p99_ns / NS_PER_MS,
        "itl_error_ms_p99": None if at.itl is None else at.itl.error.p99_ns / NS_PER_MS,
        "date": calibration.started,
        "ground_truth": str(calibration.ground_truth),
        "lower_bound": calibration.lower_bound,
    }


def _tokens_per_chunk(topologies: Mapping[str, Sequence[LoadStep]]) -> float:
    """1 where no token came."""
    visits = [one for steps in topologies.values() for step in steps for one in step.pooled]
    chunks = sum(one.tokens.n for one in visits)
    tokens = sum(one.tokens.mean * one.window.duration_s for one in visits)
    return tokens / chunks if chunks else 1.0


def _rates(ceiling: Ceiling, step: VisitStep) -> tuple[tuple[float, float, str], ...]:
    """(measured, ceiling, what)."""
    chunks_per_s = step.tokens.n / step.window.duration_s
    return (
        (chunks_per_s, ceiling.chunks_per_s, "token chunks"),
        (step.completions.mean, ceiling.requests_per_s, "requests"),
    )


def _is_beyond(ceiling: Ceiling, step: VisitStep) -> bool:
    return any(rate > most for rate, most, _ in _rates(ceiling, step))


def _is_near(ceiling: Ceiling, step: VisitStep) -> bool:
    return any(NEAR_SHARE * most < rate <= most for rate, most, _ in _rates(ceiling, step))


def _who(ceiling: Ceiling) -> str:
    return "one worker" if ceiling.workers == 1 else f"{ceiling.workers} workers"
