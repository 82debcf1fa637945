"""Whether a step may be used: valid, or invalid with every reason; and what to be wary of where it may.

Reasons and warnings are findings; a finding's message says what was seen and what to do.
"""

from collections.abc import Iterator

import numpy as np

from loadstair.analysis.bootstrap import enough_for
from loadstair.analysis.estimate import Finding, Severity
from loadstair.analysis.step import VisitStep
from loadstair.plan.model import Load, LoadMode, Plan, Workload
from loadstair.samples.frame import Samples
from loadstair.samples.record import Outcome, StampClock
from loadstair.samples.runrecord import ServerCounters, VisitRecord
from loadstair.units import NS_PER_MS

BUNCHED_SHARE_MAX = 0.01
LATENESS_SHARE_MAX = 0.10
OK_REQUESTS_MIN = 5
ERROR_RATE_MAX = 0.01
TOKEN_DEVIATION_MAX = 0.02
TOKEN_COUNT_TOLERANCE = 0.005
"""Of the server's own output tokens: engines count the end-of-sequence token differently."""
REQUESTS_FAILED = "requests.failed"
FEW_FOR_P99 = "samples.p99"
READ_LAG_NS_MAX = 20 * NS_PER_MS
CPU_PERCENT_MAX = 90.0


def judge_step(step: VisitStep, plan: Plan, workers_before: tuple[str, ...] | None) -> tuple[Finding, ...]:
    """`workers_before`: of the visit's previous step; None for its first."""
    return (
        *_generator(step),
        *_engine(step),
        *_workers(step, workers_before),
        *_books(step),
        *_requests(step, plan),
        *_clock(step),
        *_sizes(step, plan),
    )


def is_valid(findings: tuple[Finding, ...]) -> bool:
    return not any(finding.severity is Severity.INVALID for finding in findings)


def _invalid(id_: str, message: str) -> Finding:
    return Finding(id=id_, severity=Severity.INVALID, message=message)


def _warning(id_: str, message: str) -> Finding:
    return Finding(id=id_, severity=Severity.WARNING, message=message)


def _generator(step: VisitStep) -> Iterator[Finding]:
    stamping = step.stamping
    if stamping.chunks:
        late = stamping.bunched_late / stamping.chunks
        others = (stamping.bunched - stamping.bunched_late) / stamping.chunks
        if late > BUNCHED_SHARE_MAX:
            yield _invalid(
                "generator.saturated",
                f"the load generator was too slow: its own late reads merged {late:.1%} of the tokens "
                f"(at most {BUNCHED_SHARE_MAX:.0%}); add workers or hosts",
            )
        if others > BUNCHED_SHARE_MAX:
            yield _warning(
                "stream.bunched",
                f"{others:.1%} of the tokens came merged with others from the server or a proxy; ITL has gaps of 0 and "
                "long ones: look at proxy buffering and multi-token chunks",
            )
    lag = stamping.read_lag_ns_p99
    if lag is not None and lag > READ_LAG_NS_MAX:
        yield _warning(
            "generator.read_lag",
            f"reads came up to {lag / NS_PER_MS:.0f} ms (p99) after the kernel's stamps; stamps stay true, but the "
            "generator is near its limit: add workers",
        )
    cpu = step.meanwhile.generator_cpu_percent
    if cpu is not None and cpu > CPU_PERCENT_MAX:
        yield _warning(
            "generator.cpu",
            f"the busiest worker used {cpu:.0f} % of a core; stamps stay true, but add workers before going higher",
        )


def _engine(step: VisitStep) -> Iterator[Finding]:
    lateness = step.meanwhile.step_lateness
    if lateness is not None and lateness.lateness_s > LATENESS_SHARE_MAX * lateness.planned_s:
        yield _invalid(
            "simserver.late",
            f"the simulated engine was late against its own plan: {lateness.lateness_s * 1e3:.2f} ms a step of "
            f"{lateness.planned_s * 1e3:.2f} ms; this machine is too busy: use fewer users or a larger machine",
        )


def _workers(step: VisitStep, before: tuple[str, ...] | None) -> Iterator[Finding]:
    if step.record.workers_lost:
        yield _invalid(
            "workers.lost",
            f"lost during the step: {', '.join(step.record.workers_lost)}; its load was not what the step says",
        )
    if before is not None and set(before) != set(step.record.workers):
        yield _invalid(
            "workers.changed",
            f"the set of workers changed from {len(before)} to {len(step.record.workers)}: "
            "steps of different generators do not compare",
        )


def _books(step: VisitStep) -> Iterator[Finding]:
    """The rows that arrived against the workers' own books."""
    rows = step.outcomes_all
    books = step.record.counters
    failed = sum(rows.values()) - rows[Outcome.OK] - rows[Outcome.KILLED]
    pairs = (
        ("started", sum(rows.values()), books.started),
        ("ok", rows[Outcome.OK], books.ok),
        ("failed", failed, books.failed),
        ("killed", rows[Outcome.KILLED], books.killed),
    )
    wrong = [f"{name} {have} recorded, {told} counted" for name, have, told in pairs if have != told]
    if wrong:
        yield _invalid(
            "counts.workers",
            f"the records do not match the workers' counts ({'; '.join(wrong)}): records were lost; see log/",
        )
    if books.started != books.ok + books.failed + books.killed:
        yield _invalid(
            "counts.open",
            f"{books.started} requests started, {books.ok + books.failed + books.killed} ended: some were lost",
        )


def _requests(step: VisitStep, plan: Plan) -> Iterator[Finding]:
    if step.ok < OK_REQUESTS_MIN:
        yield _invalid(
            "samples.few",
            f"{step.ok} requests of the hold succeeded, {OK_REQUESTS_MIN} are needed"
            + ("" if step.failed else ": lengthen load.hold_s"),
        )
    elif step.ok < enough_for(0.99):
        yield few_for_p99(step.ok)
    limit = plan.slo.error_rate_max if plan.slo is not None and plan.slo.error_rate_max is not None else ERROR_RATE_MAX
    if step.finished and step.failed / step.finished > limit:
        kinds = ", ".join(
            f"{count} {name}"
            for name, count in step.outcomes.items()
            if count and name not in (Outcome.OK, Outcome.KILLED)
        )
        yield _invalid(
            REQUESTS_FAILED, f"{step.failed} of {step.finished} requests failed ({kinds}); at most {limit:.1%} may"
        )
    if not step.record.tail_complete:
        yield _invalid(
            "tail.incomplete",
            "requests of the hold were still under way when load.tail_s_max passed: the slowest are missing; raise it",
        )


def few_for_p99(requests: int) -> Finding:
    return _warning(
        FEW_FOR_P99,
        f"{requests} requests in the hold, a p99 needs {enough_for(0.99)}: lengthen load.hold_s or add repeats",
    )


def _clock(step: VisitStep) -> Iterator[Finding]:
    if step.stamping.clock_steps:
        yield _invalid(
            "clock.step",
            f"the wall clock was stepped in {step.stamping.clock_steps} requests; stop the time service meanwhile",
        )
    if StampClock.READ in step.stamping.clocks:
        what = "some" if len(step.stamping.clocks) > 1 else "all"
        yield _warning(
            "clock.read",
            f"{what} requests have read times instead of kernel stamps: their error is as large as the worker was busy",
        )


def _sizes(step: VisitStep, plan: Plan) -> Iterator[Finding]:
    deviation = step.token_deviation_median
    if plan.workload.ignore_eos and deviation is not None and deviation > TOKEN_DEVIATION_MAX:
        yield _invalid(
            "tokens.off",
            f"responses are off by {deviation:.0%} of the tokens asked (median): the server ignores ignore_eos or cuts "
            "at its context; set workload.ignore_eos: false or shorter lengths",
        )
    e2e = step.latency_ms["e2e"].values
    if len(e2e) and float(np.median(e2e)) > step.window.duration_s * 1e3:
        yield _warning(
            "hold.short",
            f"the hold of {step.window.duration_s:.0f} s is shorter than a median request "
            f"({float(np.median(e2e)) / 1e3:.1f} s): lengthen load.hold_s",
        )


def judge_visit(visit: VisitRecord, samples: Samples) -> tuple[Finding, ...]:
    """A visit's rows against the server's own totals. These findings hold for each of its steps.

    A failed or killed request may or may not have been finished by the server, so it widens what is accepted.
    """
    before, after = visit.server_before, visit.server_after
    if before is None or after is None:
        return ()
    requests = samples.requests
    ok = (requests["outcome"] == Outcome.OK).to_numpy(dtype=bool)
    sent = requests["sent_ns"].notna().to_numpy(dtype=bool)
    findings = []
    finished = _growth(before, after, "requests_finished")
    if finished is not None and not ok.sum() <= finished <= ok.sum() + (~ok & sent).sum():
        findings.append(
            _invalid(
                "counts.server",
                f"the server finished {finished:.0f} requests, {ok.sum()} were recorded as ok and "
                f"{(~ok & sent).sum()} as not: another client, or lost records",
            ),
        )
    tokens = _growth(before, after, "output_tokens")
    counted = requests["output_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    if tokens is not None and ok.any() and not np.isnan(counted[ok]).any():
        low = float(counted[ok].sum())
        asked = requests["output_tokens_asked"].to_numpy(dtype=np.float64)
        high = low + float(asked[~ok & sent].sum())
        if not low * (1 - TOKEN_COUNT_TOLERANCE) <= tokens <= high * (1 + TOKEN_COUNT_TOLERANCE):
            findings.append(
                _invalid(
                    "counts.tokens",
                    f"the server generated {tokens:.0f} tokens, the responses' usage says {low:.0f}: "
                    "another client, or wrong usage",
                ),
            )
    return tuple(findings)


def judge_plan(workload: Workload, load: Load) -> tuple[Finding, ...]:
    """What the plan itself makes doubtful, once for the whole run."""
    findings = []
    if load.mode is LoadMode.CLOSED and workload.output_tokens.cv == 0 and workload.input_tokens.cv == 0:
        findings.append(
            _warning(
                "workload.fixed_lengths",
                "all requests have the same lengths: in a closed loop users then move in step and queue at once, which "
                "raises TTFT; give input_tokens or output_tokens a cv of 0.05 or more",
            ),
        )
    if load.repeats == 1:
        findings.append(
            Finding(
                id="repeats.one",
                severity=Severity.INFO,
                message="one repeat: intervals tell of variation within a run, not between runs; set load.repeats: 3",
            ),
        )
    return tuple(findings)


def _growth(before: ServerCounters, after: ServerCounters, name: str) -> float | None:
    first: float | None = getattr(before, name)
    last: float | None = getattr(after, name)
    return None if first is None or last is None else last - first
