"""One staircase of levels: one worker under rising users, each level drained and held against the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadstair.calibrate.ground import MODELS, Ground, Pace, ground_truth
from loadstair.calibrate.levels import next_users
from loadstair.calibrate.truth import ended_well, held_requests, judged_level
from loadstair.clock import Deadline, now_ns, sleep_s
from loadstair.drive.session import LoadSession, VisitLoad
from loadstair.drive.staircase import NO_COUNTERS
from loadstair.errors import LoadError
from loadstair.plan.model import Lengths, Load, Workload
from loadstair.plan.staircase import growth_s
from loadstair.samples.calibration import CalibrationLevel, GroundTruth
from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.record import Phase
from loadstair.samples.runrecord import StepRecord
from loadstair.simserver.ledger import LedgerEntry
from loadstair.units import NS_PER_MS, ns_from_s

INPUT_TOKENS: Final = Lengths(mean=64, cv=0.2)
LONG: Final = Lengths(mean=50, cv=0.05)
"""About a second. Were all answers of one length, all users would ask at once."""
SHORT: Final = {GroundTruth.NATIVE: Lengths(mean=2), GroundTruth.SIMULATED: Lengths(mean=30, cv=0.05)}
"""0.2 to 0.4 s: of anything much shorter, the moment between two requests would be a part worth counting. The simulated
engine sends its first token as soon as it can, so its answers are that long by their tokens."""
REQUEST_TIMEOUT_S: Final = 30.0
DRAIN_S: Final = 40.0
"""Longer than a request may take."""
TICK_S: Final = 0.25
LEDGER_S: Final = 5.0
LEDGER_LOOK_S: Final = 0.1

BESIDE_LEVEL_S: Final = 3.0
START_S: Final = 4.0
"""What a level takes beside warm-up and hold, and a staircase until its first level; only the forecast uses them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staircase:
    name: str
    """What it counts, as progress says it."""
    pace: Pace
    output_tokens: Mapping[GroundTruth, Lengths]
    users: tuple[int, ...]
    """The ladder; rising."""
    warmup_s: float
    hold_s: float
    thorough: bool
    """As `loadstair.calibrate.levels` has it."""

    @property
    def level_s(self) -> float:
        return self.warmup_s + self.hold_s + BESIDE_LEVEL_S

    @property
    def expected_s(self) -> float:
        """If every level of the ladder is tried once."""
        return START_S + len(self.users) * self.level_s

    def load(self) -> Load:
        return Load(
            steps=tuple(self.users),
            warmup_s=self.warmup_s,
            hold_s=self.hold_s,
            request_timeout_s=REQUEST_TIMEOUT_S,
        )

    def workload(self, kind: GroundTruth) -> Workload:
        return Workload(model=MODELS[kind], input_tokens=INPUT_TOKENS, output_tokens=self.output_tokens[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    tokens: Staircase
    requests: Staircase
    quick: bool

    @property
    def expected_s(self) -> float:
        return self.tokens.expected_s + self.requests.expected_s


def effort(*, quick: bool, users: tuple[int, ...] | None) -> Effort:
    """`users`: the ladder for the token chunks, instead of the usual one."""
    tokens = Staircase(
        name="tokens",
        pace=Pace(ttft_ms=50, gap_ms=20),
        output_tokens=dict.fromkeys(GroundTruth, LONG),
        users=users or ((256, 512, 1024) if quick else (16, 64, 128, 256, 512, 1024, 2048)),
        warmup_s=1.5 if quick else 2.0,
        hold_s=2.0 if quick else 4.0,
        thorough=not quick,
    )
    requests = Staircase(
        name="requests",
        pace=Pace(ttft_ms=200, gap_ms=20),
        output_tokens=SHORT,
        users=(256, 384) if quick else (64, 128, 256, 512, 1024),
        warmup_s=1.0,
        hold_s=1.5 if quick else 3.0,
        thorough=not quick,
    )
    return Effort(tokens=tokens, requests=requests, quick=quick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Where a calibration says how it goes on."""

    phase: Callable[[str], None]
    level_done: Callable[[str, float], None]
    """A line, and the forecast in s of what it took."""


def climbed(
    staircase: Staircase, kind: GroundTruth, *, number: int, log_dir: Path, told: Told
) -> tuple[CalibrationLevel, ...]:
    """Its levels in the order in which they were measured. `number` keeps the files of several staircases apart."""
    load, workload = staircase.load(), staircase.workload(kind)
    levels: list[CalibrationLevel] = []
    told.phase("starting the ground truth and the load generator")
    with ground_truth(kind, staircase.pace, workload=workload, load=load, log_dir=log_dir, number=number) as ground:
        visit_load = VisitLoad(
            visit=number,
            topology=ground.topology.name,
            repeat=0,
            seed=0,
            workload=workload,
            load=load,
            endpoint=ground.topology.endpoint,
            calibrate_words=False,
        )
        with LoadSession(visit_load, workers=1, log_dir=log_dir) as session:
            while (users := next_users(staircase.users, levels, thorough=staircase.thorough)) is not None:
                levels.append(_level(session, ground, load, step=len(levels), users=users, told=told))
                told.level_done(f"{staircase.name}, {level_line(levels[-1])}", staircase.level_s)
    return tuple(levels)


def _level(session: LoadSession, ground: Ground, load: Load, *, step: int, users: int, told: Told) -> CalibrationLevel:
    """A step as of a visit, but drained before its records are asked for: an overloaded worker needs the time to parse
    them, and a busy server that to write its ledger."""

    def wait(phase: str, seconds: float) -> None:
        deadline = Deadline.after_s(seconds)
        while not deadline.passed():
            session.check_processes()
            ground.topology.check()
            told.phase(f"{users} users, {phase} {deadline.left_s():.0f} s")
            sleep_s(min(TICK_S, deadline.left_s()))

    start_ns = session.begin_step(step=step, load=users, users=users, growth_s=growth_s(load))
    wait("warmup", load.warmup_s)
    hold_start_ns = session.set_phase(Phase.HOLD)
    wait("hold", load.hold_s)
    session.set_phase(Phase.TAIL)
    told.phase(f"{users} users, drain")
    drained = session.drain(Deadline.after_s(DRAIN_S))
    counters = session.flush().get(step, NO_COUNTERS)
    status = session.status()
    record = StepRecord(
        step=step,
        load=users,
        start_ns=start_ns,
        hold_start_ns=hold_start_ns,
        hold_end_ns=hold_start_ns + ns_from_s(load.hold_s),
        tail_end_ns=now_ns(),
        tail_complete=drained,
        workers=status.workers,
        workers_lost=status.workers_lost,
        counters=counters,
    )
    samples = samples_from_tables([session.take_records()])
    _some_answered(samples, step)
    return judged_level(record, samples, _ledger_of(ground, samples, step), ground.schedule)


def _some_answered(samples: Samples, step: int) -> None:
    """Where every request fails it is not for the load: fewer users would not help."""
    held = held_requests(samples, step)
    if len(held) and not len(ended_well(held)):
        first = held.requests.iloc[0]
        raise LoadError(f"all {len(held)} requests to the ground truth failed: {first['outcome']}: {first['error']}")


def _ledger_of(ground: Ground, samples: Samples, step: int) -> dict[str, LedgerEntry]:
    """With every request that the level judges. Servers write their ledgers with a delay: they have better to do."""
    wanted = set(ended_well(held_requests(samples, step)).requests["request_id"])
    deadline = Deadline.after_s(LEDGER_S)
    while True:
        ledger = ground.ledger()
        missing = len(wanted - ledger.keys())
        if not missing:
            return ledger
        if deadline.passed():
            raise LoadError(f"the ground truth's ledger lacks {missing} of {len(wanted)} requests")
        sleep_s(LEDGER_LOOK_S)


def level_line(level: CalibrationLevel) -> str:
    """A level in a line of progress."""
    line = f"{level.users} users: {level.chunks_per_s:,.0f} chunks/s, {level.requests_per_s:,.0f} requests/s"
    for name, timing in (("TTFT", level.ttft), ("ITL", level.itl)):
        if timing is not None:
            line += f", {name} off by {timing.error.p99_ns / NS_PER_MS:.3f} ms"
    return line if level.held else f"{line}: does not hold: {level.why}"
