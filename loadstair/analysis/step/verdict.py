"""Whether a step may be used: valid, or invalid with every reason; and what to be wary of where it may.

Reasons and warnings are findings; a finding's message says what was seen and what to do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from loadstair.analysis.statistics.bootstrap import enough_for
from loadstair.analysis.statistics.estimate import Finding, Severity
from loadstair.analysis.step.cached import share_allowed
from loadstair.analysis.step.clocks import judge_clocks
from loadstair.analysis.step.little import expected_in_flight, server_in_flight_max, violation
from loadstair.analysis.step.measure import VisitStep
from loadstair.analysis.step.plausible import ABOVE_CEILING, judge_plausible
from loadstair.analysis.step.stationary import drifts
from loadstair.plan.model import Load, LoadMode, LoadShape, Plan, Workload
from loadstair.samples.frame import Samples
from loadstair.samples.record import Outcome, StampClock
from loadstair.samples.runrecord import ServerCounters, VisitRecord
from loadstair.units import NS_PER_MS

BUNCHED_SHARE_MAX = 0.01
LATENESS_SHARE_MAX = 0.10
OK_REQUESTS_MIN = 5
CACHED_SHARE_MAX = 0.05
"""Of the prompts' tokens, beyond what may be cached: prefill is then cheaper, and TTFT shorter, by as much at least."""
ERROR_RATE_MAX = 0.01
TOKEN_DEVIATION_MAX = 0.02
INPUT_DEVIATION_MAX = 0.10
TOKEN_COUNT_TOLERANCE = 0.005
"""Of the server's own output tokens: engines count the end-of-sequence token differently."""
REQUESTS_FAILED = "requests.failed"
WORKERS_LOST = "workers.lost"
WORKERS_CHANGED = "workers.changed"
WORKERS_MISSING = "workers.missing"
TOKENS_OFF = "tokens.off"
TAIL_INCOMPLETE = "tail.incomplete"
FEW_SAMPLES = "samples.few"
CACHE_CONTAMINATED = "cache.contaminated"
ONE_REPEAT = "repeats.one"
FEW_FOR_P99 = "samples.p99"
UNCHANGED_BY_REPEATING = frozenset(
    {
        *(TOKENS_OFF, TAIL_INCOMPLETE, FEW_SAMPLES),
        *(CACHE_CONTAMINATED, ABOVE_CEILING),
    }
)
"""Reasons that the same step would have again: a server cuts as before, a hold is as long, a cache is even fuller."""
NOT_STATIONARY = "load.not_stationary"
LITTLES_LAW = "little.law"
"""It holds in a steady state only."""
WHAT_A_SHAPE_SHOWS = {
    LoadShape.STAIRCASE: frozenset[str](),
    LoadShape.SOAK: frozenset({NOT_STATIONARY, LITTLES_LAW, REQUESTS_FAILED}),
    LoadShape.SPIKE: frozenset({NOT_STATIONARY, LITTLES_LAW, REQUESTS_FAILED, FEW_SAMPLES, TAIL_INCOMPLETE}),
}
"""What makes a step of a staircase invalid, and is what the run is there to see: a warning then."""
OVERLOADED = "load.overloaded"
WHAT_OVERLOAD_SHOWS = frozenset({NOT_STATIONARY, LITTLES_LAW})
"""More comes than is served: the queue grows, which is what such a step of an open loop is there to see."""
SERVED_SHARE_MIN = 0.95
COUNT_ERRORS_MAX = 3.0
"""Standard errors that fewer requests may end in a hold than came, by chance."""
DISPATCH_LAG_MS_MAX = 10.0
READ_LAG_NS_MAX = 20 * NS_PER_MS
CPU_PERCENT_MAX = 90.0


def judge_step(step: VisitStep, plan: Plan) -> tuple[Finding, ...]:
    findings = (
        *_generator(step),
        *_engine(step),
        *_workers(step),
        *_books(step),
        *_requests(step, plan),
        *_achieved(step, plan.load),
        *_dispatch(step, plan.load),
        *_steadiness(step),
        *_little(step),
        *_cache(step, plan.workload),
        *judge_plausible(step, plan),
        *_clock(step),
        *judge_clocks(step.record),
        *_sizes(step, plan),
    )
    shown = WHAT_A_SHAPE_SHOWS[plan.load.shape]
    if any(finding.id == OVERLOADED for finding in findings):
        shown |= WHAT_OVERLOAD_SHOWS
    return tuple(replace(one, severity=Severity.WARNING) if one.id in shown else one for one in findings)


def is_valid(findings: tuple[Finding, ...]) -> bool:
    return not any(finding.severity is Severity.INVALID for finding in findings)


def _generator(step: VisitStep) -> Iterator[Finding]:
    stamping = step.stamping
    if stamping.chunks:
        late = stamping.bunched_late / stamping.chunks
        others = (stamping.bunched - stamping.bunched_late) / stamping.chunks
        if late > BUNCHED_SHARE_MAX:
            yield Finding.invalid(
                "generator.saturated",
                f"the load generator was too slow: its own late reads merged {late:.1%} of the tokens "
                f"(at most {BUNCHED_SHARE_MAX:.0%}); add workers or hosts",
            )
        if others > BUNCHED_SHARE_MAX:
            yield Finding.warning(
                "stream.bunched",
                f"{others:.1%} of the tokens came merged with others from the server or a proxy; ITL has gaps of 0 and "
                "long ones: look at proxy buffering and multi-token chunks",
            )
    lag = stamping.read_lag_ns_p99
    if lag is not None and lag > READ_LAG_NS_MAX:
        yield Finding.warning(
            "generator.read_lag",
            f"reads came up to {lag / NS_PER_MS:.0f} ms (p99) after the kernel's stamps; stamps stay true, but the "
            "generator is near its limit: add workers",
        )
    cpu = step.meanwhile.generator_cpu_percent
    if cpu is not None and cpu > CPU_PERCENT_MAX:
        yield Finding.warning(
            "generator.cpu",
            f"the busiest worker used {cpu:.0f} % of a core; stamps stay true, but add workers before going higher",
        )


def _engine(step: VisitStep) -> Iterator[Finding]:
    lateness = step.meanwhile.step_lateness
    if lateness is not None and lateness.lateness_s > LATENESS_SHARE_MAX * lateness.planned_s:
        yield Finding.invalid(
            "simserver.late",
            f"the simulated engine was late against its own plan: {lateness.lateness_s * 1e3:.2f} ms a step of "
            f"{lateness.planned_s * 1e3:.2f} ms; this machine is too busy: use fewer users or a larger machine",
        )


def _workers(step: VisitStep) -> Iterator[Finding]:
    if step.record.workers_lost:
        yield Finding.invalid(
            WORKERS_LOST,
            f"lost by the end of the step: {', '.join(step.record.workers_lost)}; the load was not what the step says",
        )

    first, wanted = step.visit.steps[0], step.visit.workers_wanted
    if wanted is not None and len(first.workers) < wanted:
        # Those left send all of the load; where that is too much for them, the generator's own verdicts say so.
        yield Finding.warning(
            WORKERS_MISSING,
            f"the visit began with {len(first.workers)} of {wanted} workers: the others were lost before its first "
            "step, and these had to carry all; see log/",
        )
    if not step.record.workers_lost and set(step.record.workers) != set(first.workers):
        yield Finding.warning(
            WORKERS_CHANGED,
            f"sent by {', '.join(step.record.workers) or 'no worker'}, the visit's first step by "
            f"{', '.join(first.workers)}: others were lost, and these had to carry all",
        )


def _achieved(step: VisitStep, load: Load) -> Iterator[Finding]:
    """A closed loop's users never pause: but for a moment after each request, all of them have one under way."""
    stay_s = step.flow.residence_s
    if load.mode is not LoadMode.CLOSED or stay_s is None or step.finished < OK_REQUESTS_MIN:
        return
    users = round(step.record.load)
    if step.flow.in_flight < expected_in_flight(users, stay_s):
        yield Finding.invalid(
            "generator.idle_users",
            f"{step.flow.in_flight:.3g} requests were under way on average, {users} users should have had {users}: "
            "users stood idle (the load generator was saturated, add workers or hosts), or records were lost",
        )


def _dispatch(step: VisitStep, load: Load) -> Iterator[Finding]:
    """Of an open loop: sent when it was due, all of it, and whether the server keeps up."""
    lag, books = step.dispatch_lag, step.record.counters
    if lag is None:
        return
    if lag.own_p99_ms is not None and lag.own_p99_ms > DISPATCH_LAG_MS_MAX:
        yield Finding.invalid(
            "generator.dispatch_lag",
            f"requests were begun up to {lag.own_p99_ms:.0f} ms (p99) after they were due (at most "
            f"{DISPATCH_LAG_MS_MAX:g} ms): the arrivals were not those of the plan; add workers or hosts",
        )
    if books.scheduled > books.started and step.visit.drained:
        yield Finding.invalid(
            "arrivals.unsent",
            f"{books.scheduled - books.started} of {books.scheduled} requests that were due were never sent; see log/",
        )
    if books.held_back:
        yield Finding.warning(
            "arrivals.held_back",
            f"load.max_in_flight ({load.max_in_flight}) made {books.held_back} of {books.scheduled} requests wait, up "
            f"to {lag.p99_ms:.0f} ms (p99 of the hold); SLO and goodput count from when they were due",
        )
    came, seconds = lag.requests, step.window.duration_s
    ended = step.flow.ended_per_s * seconds
    if came - ended > max((1 - SERVED_SHARE_MIN) * came, COUNT_ERRORS_MAX * math.sqrt(came)):
        yield Finding.warning(
            OVERLOADED,
            f"{came / seconds:.3g} requests/s came, {ended / seconds:.3g} ended: more than it carries; TTFT grows for "
            "as long as the load lasts",
        )


def _little(step: VisitStep) -> Iterator[Finding]:
    seen = step.flow
    apart = violation(seen, step.window)
    if apart is not None:
        yield Finding.invalid(
            LITTLES_LAW,
            f"Little's law does not hold: {seen.ended_per_s:.3g} requests/s × {seen.residence_s:.3g} s make "
            f"{seen.expected:.3g} under way, {seen.in_flight:.3g} were ({apart:+.0%}): times are wrong, "
            "requests are missing, or the load was not steady",
        )
    engines = _engines_in_flight(step)
    if engines is not None and engines > server_in_flight_max(seen.in_flight):
        yield Finding.invalid(
            "little.server",
            f"the engines had {engines:.3g} requests under way, the records {seen.in_flight:.3g}: another client, or "
            "lost records",
        )


def _engines_in_flight(step: VisitStep) -> float | None:
    running, waiting = step.meanwhile.requests_running, step.meanwhile.requests_waiting
    return None if running is None or waiting is None else running + waiting


def _cache(step: VisitStep, workload: Workload) -> Iterator[Finding]:
    use = step.cached
    inputs = use.input_tokens or step.input_tokens_asked_mean
    if inputs is None:
        return
    allowed = share_allowed(workload, inputs)
    for who, share, sure in (
        ("the responses", use.responses_share, True),
        ("the engines' counters", use.engines_share, not use.preempted),
    ):
        if share is not None and share > allowed + CACHED_SHARE_MAX:
            message = (
                f"{who} say that {share:.0%} of the prompts' tokens came from the prefix cache, {allowed:.0%} are "
                "accounted for by the chat template and the shared prefix"
            )
            if workload.salt and sure:
                yield Finding.invalid(
                    CACHE_CONTAMINATED, f"{message}: the cache answered for the GPU; is the salt at the prompts' start?"
                )
            elif not workload.salt:
                yield Finding.warning(CACHE_CONTAMINATED, f"{message}: workload.salt is false, prompts repeat")
            else:
                yield Finding.warning(
                    CACHE_CONTAMINATED, f"{message}; preempted requests, which find their own tokens, may explain it"
                )
            return


def _books(step: VisitStep) -> Iterator[Finding]:
    """The rows that arrived against the workers' own books.

    After an orderly drain both are final and must be equal. The books of a visit that broke off are those of the
    step's end: requests of its tail may have been under way, and their rows may have come with a later step's, so
    there may be more rows than were counted, never fewer.
    """
    final = step.visit.drained
    rows = step.outcomes_all
    books = step.record.counters
    ended = books.ok + books.failed + books.killed + books.lost
    failed = sum(rows.values()) - rows[Outcome.OK] - rows[Outcome.KILLED]
    pairs = [
        ("ok", rows[Outcome.OK], books.ok),
        ("failed", failed, books.failed),
        ("killed", rows[Outcome.KILLED], books.killed),
    ]
    if final:
        pairs.insert(0, ("started", sum(rows.values()), books.started - books.lost))
    wrong = [
        f"{name} {have} recorded, {told} counted"
        for name, have, told in pairs
        if have < told or (final and have > told)
    ]
    if wrong:
        yield Finding.invalid(
            "counts.workers",
            f"the records do not match the workers' counts ({'; '.join(wrong)}): records were lost; see log/",
        )
    if books.lost:
        yield Finding.warning(
            "counts.lost",
            f"{books.lost} of {books.started} requests were under way, or not yet recorded, when their worker was lost",
        )
    if final and books.started != ended:
        yield Finding.invalid("counts.open", f"{books.started} requests started, {ended} ended: some were lost")
    elif books.started > ended:
        yield Finding.warning(
            "counts.open",
            f"the visit broke off: of {books.started} requests {books.started - ended} were under way when the step's "
            "books were closed; whether they are all recorded is not known",
        )


def _requests(step: VisitStep, plan: Plan) -> Iterator[Finding]:
    if step.ok < OK_REQUESTS_MIN:
        yield Finding.invalid(
            FEW_SAMPLES,
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
        yield Finding.invalid(
            REQUESTS_FAILED, f"{step.failed} of {step.finished} requests failed ({kinds}); at most {limit:.1%} may"
        )
    if not step.record.tail_complete:
        yield Finding.invalid(
            TAIL_INCOMPLETE,
            "requests of the hold were still under way when load.tail_s_max passed: the slowest are missing; raise it",
        )


def _steadiness(step: VisitStep) -> Iterator[Finding]:
    found = drifts(step.over_hold)
    if found:
        told = ", ".join(f"{name} {change:+.0%}" for name, change in found.items())
        yield Finding.invalid(
            NOT_STATIONARY,
            f"the hold was not stationary ({told} from its beginning to its end): a queue still built up, or the "
            "server changed; lengthen load.warmup_s and load.hold_s",
        )
    elif step.record.stationary is False:
        yield Finding.warning(
            "warmup.not_stationary",
            "TTFT, tokens/s or the requests in flight still drifted when warm-up reached load.warmup_s_max; the hold "
            "shows no drift, but raise it",
        )


def few_for_p99(requests: int) -> Finding:
    return Finding.warning(
        FEW_FOR_P99,
        f"{requests} requests in the hold, a p99 needs {enough_for(0.99)}: lengthen load.hold_s or add repeats",
    )


def _clock(step: VisitStep) -> Iterator[Finding]:
    if step.stamping.clock_steps:
        yield Finding.invalid(
            "clock.step",
            f"the wall clock was stepped in {step.stamping.clock_steps} requests; stop the time service meanwhile",
        )
    if StampClock.READ in step.stamping.clocks:
        what = "some" if len(step.stamping.clocks) > 1 else "all"
        yield Finding.warning(
            "clock.read",
            f"{what} requests have read times instead of kernel stamps: their error is as large as the worker was busy",
        )


def _sizes(step: VisitStep, plan: Plan) -> Iterator[Finding]:
    deviation = step.token_deviation_median
    if plan.workload.ignore_eos and deviation is not None and deviation > TOKEN_DEVIATION_MAX:
        yield Finding.invalid(
            TOKENS_OFF,
            f"responses are off by {deviation:.0%} of the tokens asked (median): the server ignores ignore_eos or cuts "
            "at its context; set workload.ignore_eos: false or shorter lengths",
        )
    off_by = step.input_deviation_median
    if off_by is not None and off_by > INPUT_DEVIATION_MAX:
        yield Finding.warning(
            "input.off",
            f"prompts are off by {off_by:.0%} of the tokens asked (median; on average "
            f"{step.input_tokens_mean:.0f} instead of {step.input_tokens_asked_mean:.0f}): the server "
            "has another tokenizer or adds a template; change workload.input_tokens by as much",
        )
    e2e = step.latency_ms["e2e"].values
    if len(e2e) and float(np.median(e2e)) > step.window.duration_s * 1e3:
        yield Finding.warning(
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
            Finding.invalid(
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
                Finding.invalid(
                    "counts.tokens",
                    f"the server generated {tokens:.0f} tokens, the responses' usage says {low:.0f}: "
                    "another client, or wrong usage",
                ),
            )
    return tuple(findings)


def unchecked_books(visits: Sequence[VisitRecord]) -> tuple[Finding, ...]:
    """Of the whole run: whose requests and tokens were held against no count but the load generator's own."""
    names = dict.fromkeys(visit.topology for visit in visits if not _server_counts(visit))
    if not names:
        return ()
    return (
        Finding.info(
            "counts.unchecked",
            f"{', '.join(names)}: the server's own counters are not known (no metrics, or the visit broke off), so "
            "requests and tokens were not checked against them",
        ),
    )


def _server_counts(visit: VisitRecord) -> bool:
    before, after = visit.server_before, visit.server_after
    if before is None or after is None:
        return False
    return any(_growth(before, after, name) is not None for name in ("requests_finished", "output_tokens"))


def judge_plan(workload: Workload, load: Load) -> tuple[Finding, ...]:
    """What the plan itself makes doubtful, once for the whole run."""
    findings = []
    if load.mode is LoadMode.CLOSED and workload.output_tokens.cv == 0 and workload.input_tokens.cv == 0:
        findings.append(
            Finding.warning(
                "workload.fixed_lengths",
                "all requests have the same lengths: in a closed loop users then move in step and queue at once, which "
                "raises TTFT; give input_tokens or output_tokens a cv of 0.05 or more",
            ),
        )
    if not workload.salt:
        findings.append(
            Finding.warning(
                "workload.unsalted",
                "workload.salt is false: a prefix cache may answer for the GPU where prompts repeat",
            ),
        )
    if load.repeats == 1:
        findings.append(
            Finding.info(
                ONE_REPEAT,
                "one repeat: intervals tell of variation within a run, not between runs; set load.repeats: 3",
            ),
        )
    return tuple(findings)


def _growth(before: ServerCounters, after: ServerCounters, name: str) -> float | None:
    first: float | None = getattr(before, name)
    last: float | None = getattr(after, name)
    return None if first is None or last is None else last - first
