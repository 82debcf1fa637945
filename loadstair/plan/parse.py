"""A YAML file to a `Plan`, or every mistake in it at once. The one door to PyYAML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loadstair.errors import PlanError, Problem, UsageError
from loadstair.plan.mistakes import problems_of
from loadstair.plan.model import Plan
from loadstair.plan.path import set_at, split_path
from loadstair.plan.rules import rule_problems

PLAN_BYTES_MAX = 1024 * 1024
VALUES_MAX = 100_000


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error, not the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", key_node))
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a file, with `a.b=value` overrides applied first.

    Raises PlanError with every mistake; UsageError for an override that is not `path=value`.
    """
    source = str(path)
    raw = _load_yaml(source, _read_text(path))
    if not isinstance(raw, dict):
        raise PlanError(
            source, [Problem(path="", message="a plan is a mapping of keys (name, workload, load, topologies)")]
        )
    for override in overrides:
        apply_override(raw, override)
    return parse_plan(raw, source)


def read_measured_plan(path: Path) -> Plan:
    """The plan in a run folder. Only its shape is checked: it was right when it was measured, and a newer step-time
    model must not refuse last month's run. Raises PlanError."""
    raw = _load_yaml(str(path), _read_text(path))
    try:
        return Plan.model_validate(raw)
    except ValidationError as error:
        raise PlanError(str(path), problems_of(error.errors(), raw)) from error


def parse_plan(raw: Mapping[str, Any], source: str) -> Plan:
    """Raises PlanError with every mistake in the shape; if there are none, with every rule that the values break."""
    try:
        plan = Plan.model_validate(raw)
    except ValidationError as error:
        raise PlanError(source, problems_of(error.errors(), raw)) from error
    problems = list(dict.fromkeys(rule_problems(plan)))  # one mistake can concern several topologies
    if problems:
        raise PlanError(source, problems)
    return plan


def plan_yaml(plan: Plan) -> str:
    """The plan as resolved, with the defaults written out; reading it again gives the same plan."""
    text: str = yaml.safe_dump(
        plan.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=120
    )
    return text


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PlanError(str(path), [Problem(path="", message="no such file")]) from error
    except OSError as error:
        raise PlanError(str(path), [Problem(path="", message=f"cannot be read: {error.strerror}")]) from error
    if len(data) > PLAN_BYTES_MAX:
        raise PlanError(
            str(path), [Problem(path="", message=f"is {len(data)} bytes long; a plan has at most {PLAN_BYTES_MAX}")]
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(str(path), [Problem(path="", message=f"is not UTF-8 text (byte {error.start})")]) from error


def _load_yaml(source: str, text: str) -> Any:
    try:
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader subclass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise PlanError(source, [Problem(path="", message=f"{where}not YAML: {what}")]) from error
    except RecursionError as error:
        raise PlanError(source, [Problem(path="", message="is nested too deeply to be a plan")]) from error
    if _values(raw, {}) > VALUES_MAX:
        raise PlanError(source, [Problem(path="", message=f"has more than {VALUES_MAX} values, aliases written out")])
    return raw


def _values(value: object, counted: dict[int, int]) -> int:
    """How many values there are with every alias written out: a few hundred bytes of YAML can stand for billions."""
    if id(value) not in counted:
        counted[id(value)] = 1  # a value inside itself would count for ever
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        counted[id(value)] = 1 + sum(_values(item, counted) for item in inside)
    return counted[id(value)]


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Sets one value in place: `load.hold_s=5`, `topologies[0].engines[0].tp=2`. The value is read as YAML."""
    path, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}: expected path=value, such as load.hold_s=5")
    try:
        set_at(raw, split_path(path), yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override}: {text!r} is not a YAML value") from error
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error
