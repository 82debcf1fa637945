"""The report's tables as rows of words: everything that the template prints and that is not a plain key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadstair.report import view
from loadstair.report.charts import STYLES, Figure
from loadstair.report.charts_load import answer_figure, latency_figures, requests_figure
from loadstair.report.charts_time import balance_figures, time_figures
from loadstair.report.definitions import DEFINITIONS
from loadstair.report.generator import PREDICTED_HOW, generator_words
from loadstair.report.matrix import MatrixPart, matrix_parts, matrix_subject, status_counts
from loadstair.report.shape_part import ShapePart
from loadstair.report.sizing import sizing_table
from loadstair.report.soak import soak_parts
from loadstair.report.spike import spike_parts
from loadstair.report.steps import Steps, Table, steps
from loadstair.report.versus import Versus, caveats, versus

JOULE = "output_tokens_per_joule"
LAWS = {"usl": "USL", "full_batch": "full batch", "piecewise": "bend"}
"""What `capacity.fit` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    text: str
    tone: str
    """good, warn or bad: chooses the colour; the text says the same in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    name: str
    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    topology: str
    style: int
    subtitle: str
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    unit: str
    subject: str
    """What was asked of the topologies, in a line."""
    matrix: tuple[MatrixPart, ...]
    """By topology; empty unless the run was a matrix."""
    badges: tuple[Badge, ...]
    caveats: tuple[Mapping[str, Any], ...]
    """Findings that belong beside the answer: what the arms of a comparison should share and do not."""
    answer: Figure | None
    """None where nothing was measured, as the other charts then, and where the run was no staircase."""
    shape: str
    """staircase, soak or spike."""
    parts: tuple[ShapePart, ...]
    """Of a soak or a spike, by topology."""
    cards: tuple[Card, ...]
    sizing: Table | None
    """What each topology's GPUs hold; None where that is not known."""
    versus: tuple[Versus, ...]
    against_load: tuple[Figure, ...]
    over_time: tuple[Figure, ...]
    balance: tuple[Figure, ...]
    steps: tuple[Steps, ...]
    measured: tuple[str, ...]
    """How it was measured: what the numbers owe to the load generator and its clock. Of a forecast: that it was not."""
    environment: tuple[Fact, ...]
    definitions: tuple[tuple[str, str], ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        parts = (part.figure for part in self.parts)
        return (*([self.answer] if self.answer else []), *parts, *self.against_load, *self.over_time, *self.balance)


def page(summary: Mapping[str, Any], run: Mapping[str, Any]) -> Page:
    unit = view.load_unit(summary["mode"])
    topologies = summary["topologies"]
    shape = summary.get("shape", "staircase")  # a summary of an older version has none
    staircase = shape == "staircase"
    measured = staircase and any(topology["steps"] for topology in topologies.values())
    places = {name: index % STYLES for index, name in enumerate(topologies)}
    matrix = matrix_parts(summary, places)
    return Page(
        unit=unit,
        subject=matrix_subject(summary) if matrix else view.subject(summary["workload"]),
        matrix=matrix,
        badges=_badges(summary),
        caveats=caveats(summary),
        answer=answer_figure(summary) if measured else None,
        shape=shape,
        parts=(*soak_parts(summary), *spike_parts(summary)),
        cards=tuple(_card(name, topology, places[name], unit) for name, topology in topologies.items())
        if staircase and not matrix
        else (),
        sizing=sizing_table(summary),
        versus=tuple(versus(one, places, unit) for one in summary["comparisons"].values()),
        against_load=(*latency_figures(summary), requests_figure(summary)) if measured else (),
        over_time=time_figures(summary),
        balance=balance_figures(summary),
        steps=tuple(steps(name, one, places[name], unit) for name, one in topologies.items() if not matrix),
        measured=(PREDICTED_HOW if view.is_predicted(summary) else generator_words(summary["generator"]),),
        environment=_environment(run),
        definitions=DEFINITIONS,
    )


def _badges(summary: Mapping[str, Any]) -> tuple[Badge, ...]:
    badges = []
    for name, topology in summary["topologies"].items():
        if name in (summary.get("matrix") or {}):
            text, tone = status_counts(summary["matrix"][name])
            badges.append(Badge(text=f"{name}: {text}", tone=tone))
            continue
        steps = topology["steps"]
        valid = sum(step["verdict"] == "valid" for step in steps)
        tone = "bad" if valid == 0 else "good" if valid == len(steps) else "warn"
        text = f"{valid} of {len(steps)} steps valid" if steps else "never measured"
        badges.append(Badge(text=f"{name}: {text}", tone=tone))
    for result in summary["thresholds"]:
        tone = {"met": "good", "failed": "bad"}.get(result["status"], "warn")
        badges.append(Badge(text=f"threshold {result['status']}: {result['text']}", tone=tone))
    if summary["ending"] != "complete":
        badges.append(Badge(text=f"the run did not complete: {summary['ending'].replace('_', ' ')}", tone="bad"))
    if view.is_predicted(summary):
        badges.insert(0, Badge(text="predicted: nothing was measured", tone="warn"))
    elif any(topology["kind"] == "simulated" for topology in summary["topologies"].values()):
        badges.append(Badge(text="simulated engines: a forecast", tone="warn"))
    if any(finding["id"] == "tls.unverified" for finding in summary["findings"]):
        badges.append(Badge(text="TLS without verification", tone="warn"))
    if summary["quick"]:
        badges.append(Badge(text="quick run: wide intervals", tone="warn"))
    return tuple(badges)


def _card(name: str, topology: Mapping[str, Any], style: int, unit: str) -> Card:
    capacity = topology["capacity"]
    gpus = topology["gpus"]
    subtitle = topology["kind"] if gpus is None else f"{topology['kind']}, {gpus['count']} × {gpus['type']}"

    def at(key: str) -> str:
        return view.load_words(capacity[key], unit)

    def fact(label: str, key: str) -> Fact:
        return Fact(name=label, value=view.value_only(capacity[key]), interval=view.bounds(capacity[key]))

    facts = [
        fact("Highest output tokens/s", "output_tokens_per_s"),
        Fact(name="Reached at", value=at("saturation_load")),
        fact("Goodput, requests/s", "goodput_rps"),
        Fact(name="Recommended load", value=at("recommended_load")),
        Fact(name="SLO capacity", value=at("slo_capacity_load")),
        *_between_steps(capacity, unit),
        Fact(name="Knee", value=at("knee_load")),
        Fact(name="Latency doubles at", value=at("latency_doubling_load")),
        _failure(capacity, at("failure_load")),
        fact("Output tokens/s per GPU", "output_tokens_per_s_per_gpu"),
        fact("USD per 1M output tokens", "usd_per_million_output_tokens"),
        fact("USD per 1M requests", "usd_per_million_requests"),
        *([fact("Output tokens per joule", JOULE)] if JOULE in capacity else []),  # not in an older summary
    ]
    known = tuple(one for one in facts if one.value != view.ABSENT)
    return Card(
        topology=name,
        style=style,
        subtitle=subtitle,
        facts=known,
        notes=tuple(finding["message"] for finding in (*capacity["findings"], *_knee_findings(capacity))),
    )


def _failure(capacity: Mapping[str, Any], load: str) -> Fact:
    kind = capacity.get("failure_kind")  # not in an older summary
    return Fact(name="First failure at", value=load, interval=f"({kind.replace('_', ' ')})" if kind else "")


def _knee_findings(capacity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Which laws its interval spans, or why there is none; not where the steps say so themselves."""
    knee: Mapping[str, Any] = capacity.get("knee") or {}  # not in an older summary
    told = any(finding["id"] == "capacity.no_knee" for finding in capacity["findings"])
    return knee.get("findings", []) if capacity.get("fit") and not told else []


def _between_steps(capacity: Mapping[str, Any], unit: str) -> list[Fact]:
    """Estimates that lie between measured steps; older summaries have none."""
    fit = capacity.get("fit") or ""
    by = {name: capacity.get(name) or {} for name in LAWS}
    estimates = {
        "SLO limit reached at": capacity.get("slo_capacity"),
        f"Knee, fitted ({LAWS.get(fit, fit)})": capacity.get("knee"),
        **{f"Knee by {word} alone": by[name].get("knee_load") for name, word in LAWS.items() if name != fit},
        "Full batch, fitted": by["full_batch"].get("full_load") if fit == "full_batch" else None,
        "Peak, fitted (USL)": by["usl"].get("peak_load"),
    }
    return [
        Fact(name=name, value=f"{view.value_only(one)} {unit}", interval=view.bounds(one))
        for name, one in estimates.items()
        if one is not None and one["value"] is not None
    ]


def _environment(run: Mapping[str, Any]) -> tuple[Fact, ...]:
    facts = [
        Fact(name="Started", value=str(run.get("started", view.ABSENT))),
        Fact(name="Loadstair", value=str(run.get("loadstair_version", view.ABSENT))),
        Fact(name="Seed", value=str(run.get("seed", view.ABSENT))),
    ]
    for title in ("host", "versions"):
        facts += [Fact(name=str(key), value=_words(value)) for key, value in run.get(title, {}).items()]
    for name, fingerprint in run.get("topologies", {}).items():
        facts.append(Fact(name=f"topology {name}", value=_words(fingerprint)))
    return tuple(facts)


def _words(value: object) -> str:
    """Nested values in one line: `kind: simulated; engines: 2`."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(inner)}" for key, inner in value.items()) or view.ABSENT
    if isinstance(value, list | tuple):
        return ", ".join(_words(inner) for inner in value) or view.ABSENT
    return view.ABSENT if value is None else str(value)
