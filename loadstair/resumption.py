"""A run that ended early and is to go on: whether it may, and what it still lacks.

What was measured stays as it is. A visit that broke off is followed by another of the same topology and repeat, which
takes the steps that it lacks. A spike's steps belong together and are taken again; a soak is one step. A visit whose
workers were lost and replaced is followed by another in the same way, while the run goes on.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from loadstair.drive.staircase import StepOrder
from loadstair.errors import UsageError
from loadstair.plan.matrix import Burst, BurstKind, bursts
from loadstair.plan.model import ExternalTopology, LoadShape, Matrix, Plan
from loadstair.plan.parse import plan_yaml
from loadstair.plan.staircase import ExpectedRequest, Visit, expected_step_s, planned_steps, visits
from loadstair.samples.runrecord import Ending, RunRecord, StepRole, VisitRecord

DIFFERENCES_SHOWN: Final = 3
REPLACEMENTS_MAX: Final = 3
"""How often a visit's lost workers are replaced."""
EXTRA_ROLES: Final = (StepRole.REFINED, StepRole.BISECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """A visit that is yet to come, or to be completed."""

    visit: Visit
    earlier: tuple[VisitRecord, ...]
    """Visits of the same topology and repeat that broke off, as far as their steps are not taken again."""

    @property
    def steps_done(self) -> frozenset[int]:
        return frozenset(step.step for visit in self.earlier for step in visit.steps)

    @property
    def steps_that_lost_a_worker(self) -> frozenset[int]:
        return frozenset(step.step for visit in self.earlier for step in visit.steps if step.workers_lost)


def remaining(plan: Plan, record: RunRecord) -> tuple[Remaining, ...]:
    """In the plan's order; all of it for a new run.

    A visit that broke off before its first step is on disk has left logs, and its requests may be in a server's: each
    resumption has numbers of its own for its visits, and for those that go on with other workers.
    """
    order = visits(plan)
    rounds = 1 + REPLACEMENTS_MAX if _replaces_workers(plan) else 1
    first = len(order) * rounds * len(record.resumed)
    return tuple(
        Remaining(visit=replace(visit, visit=first + visit.visit), earlier=_earlier(plan, record, visit))
        for visit in order
        if not any(_is_over(one) for one in _same(record, visit))
    )


def continued(plan: Plan, record: RunRecord, one: Remaining) -> Remaining:
    """What a visit lacks that has just broken off, under a number of its own."""
    visit = replace(one.visit, visit=one.visit.visit + len(visits(plan)))
    return Remaining(visit=visit, earlier=_earlier(plan, record, visit))


def _same(record: RunRecord, visit: Visit) -> list[VisitRecord]:
    return [one for one in record.visits if (one.topology, one.repeat) == (visit.topology.name, visit.repeat)]


def _is_over(visit: VisitRecord) -> bool:
    return visit.finished or (visit.drained and visit.broke_off is None)  # an older version noted the drain alone


def _earlier(plan: Plan, record: RunRecord, visit: Visit) -> tuple[VisitRecord, ...]:
    return tuple(one for one in _same(record, visit) if _is_kept(plan, one))


def _is_kept(plan: Plan, visit: VisitRecord) -> bool:
    if plan.load.shape is LoadShape.SPIKE:
        spoilt = _replaces_workers(plan) and any(step.workers_lost for step in visit.steps)
        return len(visit.steps) == len(planned_steps(plan.load)) and not spoilt
    return bool(visit.steps)


def _replaces_workers(plan: Plan) -> bool:
    return plan.load.on_worker_lost == "replace"


def bursts_left(matrix: Matrix, one: Remaining) -> tuple[Burst, ...]:
    """With the warm-up once more: engines that were started anew are cold. None where no other is left."""
    left = [found for burst in bursts(matrix) if (found := _burst_left(burst, one)) is not None]
    return tuple(left) if any(burst.kind is not BurstKind.WARMUP for burst in left) else ()


def _burst_left(burst: Burst, one: Remaining) -> Burst | None:
    """One that lost a worker is left to be taken once more, unless it was."""
    if burst.kind is BurstKind.WARMUP or burst.step not in one.steps_done:
        return burst
    again = burst.once_more()
    lost = burst.step in one.steps_that_lost_a_worker
    return again if lost and again.step not in one.steps_done else None


def extras_of(record: RunRecord, topology: str) -> list[StepOrder]:
    """The steps that the first repeat added to the plan's, as far as they were measured."""
    return [
        StepOrder(step=step.step, load=step.load, role=step.role)
        for visit in record.visits
        if visit.topology == topology and visit.repeat == 0
        for step in visit.steps
        if step.role in EXTRA_ROLES
    ]


def expected_left_s(plan: Plan, record: RunRecord, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of the steps that the plan has and the record lacks."""
    return sum(expected_rest_s(plan, one, expected_e2e_s) for one in remaining(plan, record))


def expected_rest_s(plan: Plan, one: Remaining, expected_e2e_s: ExpectedRequest) -> float:
    """Forecast of what one visit has yet to take."""
    steps = len(planned_steps(plan.load)) if plan.matrix is None else len(bursts(plan.matrix))
    return sum(
        expected_step_s(plan, one.visit.topology, step, expected_e2e_s)
        for step in range(steps)
        if step not in one.steps_done
    )


def resumed_record(record: RunRecord, *, now: str) -> RunRecord:
    """Running again. How it had ended is kept with the visit that broke off."""
    *before, last = record.visits or (None,)
    if last is not None and not last.finished and last.broke_off is None:
        last = replace(last, broke_off=record.ending, broke_off_message=record.ending_message)
    kept = () if last is None else (*(visit for visit in before if visit is not None), last)
    return replace(record, visits=kept, ending=Ending.RUNNING, ending_message=None, resumed=(*record.resumed, now))


def refuse_complete(folder: Path, record: RunRecord) -> None:
    """Raises UsageError. There is nothing of a forecast to go on with, either."""
    if record.predicted:
        raise UsageError(f"--resume {folder}: a forecast, not a measured run; `loadstair forecast` makes it again")
    if record.ending is Ending.COMPLETE:
        raise UsageError(
            f"--resume {folder}: the run is complete; `loadstair analyze {folder}` makes its summary again"
        )


def refuse_another_plan(folder: Path, measured: Plan, given: Plan, source: Path) -> None:
    """Raises UsageError. Both as resolved, with --set and --quick."""
    apart = differences(_plain(measured), _plain(given))
    if apart:
        raise UsageError(
            f"{source}: not the plan that {folder} was measured with: {_shown(apart)}; give the same plan, --set and "
            "--quick, or none: the folder has it"
        )


def refuse_another_topology(folder: Path, name: str, measured: dict[str, Any], seen: dict[str, Any]) -> None:
    """Raises UsageError. Fingerprints, from the file or as seen now; what one does not tell cannot be compared."""
    apart = differences(_as_json(measured), _as_json(seen))
    if apart:
        raise UsageError(
            f"topology {name}: not what {folder} was measured with: {_shown(apart)}; resume with the same, or begin a "
            "new run"
        )


def plan_folder(folder: Path, plan: Plan, record: RunRecord) -> Path:
    """The folder of the plan, as the run noted it, for a resumption that was given none. Raises UsageError where it is
    needed and not there."""
    noted = None if record.plan_dir is None else Path(record.plan_dir)
    certificates = any(isinstance(one, ExternalTopology) and one.tls.ca is not None for one in plan.topologies)
    if "{plan_dir}" in plan_yaml(plan) or certificates or plan.load.trace is not None:
        if noted is None or not noted.is_dir():
            where = "not noted" if noted is None else f"{noted} is gone"
            raise UsageError(
                f"--resume {folder}: the plan names files beside itself, and its folder is {where}; give PLAN too"
            )
        return noted
    return folder if noted is None else noted


def changed_lines(record: RunRecord, now: RunRecord) -> list[str]:
    """What is no reason to refuse, but to be wary of: other versions, another machine."""
    apart = differences(_circumstances(record), _circumstances(now))
    return [f"resumed elsewhere than it began: {_shown(apart)}"] if apart else []


def _circumstances(record: RunRecord) -> dict[str, Any]:
    return {"loadstair": record.loadstair_version, "versions": record.versions, "host": record.host}


def _as_json(value: dict[str, Any]) -> Any:
    """With lists for tuples."""
    return json.loads(json.dumps(value))


def differences(before: Any, now: Any) -> list[str]:
    """`load.hold_s is 5, was 3` for each value of two JSON documents that is not the same."""
    return list(_differences(before, now, ""))


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(old, new, f"{path}[{index}]")
    elif before != now:
        yield f"{path} is {_value(now)}, was {_value(before)}"


def _value(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _plain(plan: Plan) -> dict[str, Any]:
    return plan.model_dump(mode="json")


def _shown(apart: list[str]) -> str:
    more = f" and {len(apart) - DIFFERENCES_SHOWN} more" if len(apart) > DIFFERENCES_SHOWN else ""
    return "; ".join(apart[:DIFFERENCES_SHOWN]) + more
