"""The report's tables as rows of words: everything that the template prints and that is not a plain key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadstair.report import view

DEFINITIONS = (
    ("TTFT", "time to first token: from the send system call to the first chunk that carries text (no role chunk)."),
    ("ITL", "inter-token latency: every gap between token-carrying arrivals, all requests pooled."),
    ("TPOT", "time per output token, per request: (last token − first token) / (output tokens − 1)."),
    ("E2E", "from the send system call to the last token."),
    ("Throughput", "output tokens that arrived inside the hold window / its length, whatever became of their request."),
    ("Goodput", (
        "requests per second that succeeded, each within the SLO's TTFT, TPOT and e2e limits itself: of a metric's "
        "percentiles the highest one's limit; where TPOT has none, that of the ITL."
    )),
    ("Hold window", "the measured part of a step, after its warm-up; latency is that of requests dispatched in it."),
    ("Valid", "the step may be used; an invalid one is shown hollow, with its reasons, and enters no other number."),
    ("[low, high]", "95 % interval. A difference is claimed only where the interval of the ratio excludes 1."),
    ("Knee", (
        "the last load before the gain in throughput per doubling of the load falls below 1.3: the whole interval of "
        "the gain to the next step lies below it, and the gain to no later step reaches it."
    )),
    ("Latency-doubling point", (
        "the first load whose median E2E is above twice that of the first step; unknown where that step is invalid."
    )),
    ("SLO capacity", (
        "the highest load up to which every step is valid and known to meet every limit of the SLO. A percentile with "
        "too few samples is not known."
    )),
    ("Recommended load", (
        "the highest load up to which every step is valid, without a failed request, and violates no limit of the SLO "
        "as far as that is known; without an SLO: before the latency doubles."
    )),
)  # fmt: skip


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
    subtitle: str
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRow:
    label: str
    ratios: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    title: str
    columns: tuple[str, ...]
    at_capacity: tuple[RatioRow, ...]
    by_load: tuple[RatioRow, ...]
    crossings: tuple[Fact, ...]
    findings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    unit: str
    badges: tuple[Badge, ...]
    cards: tuple[Card, ...]
    versus: tuple[Versus, ...]
    environment: tuple[Fact, ...]
    definitions: tuple[tuple[str, str], ...]


def page(summary: Mapping[str, Any], run: Mapping[str, Any]) -> Page:
    unit = view.load_unit(summary["mode"])
    return Page(
        unit=unit,
        badges=_badges(summary),
        cards=tuple(_card(name, topology, unit) for name, topology in summary["topologies"].items()),
        versus=tuple(_versus(one, unit) for one in summary["comparisons"].values()),
        environment=_environment(run),
        definitions=DEFINITIONS,
    )


def _badges(summary: Mapping[str, Any]) -> tuple[Badge, ...]:
    badges = []
    for name, topology in summary["topologies"].items():
        steps = topology["steps"]
        valid = sum(step["verdict"] == "valid" for step in steps)
        tone = "bad" if valid == 0 else "good" if valid == len(steps) else "warn"
        badges.append(Badge(text=f"{name}: {valid} of {len(steps)} steps valid", tone=tone))
    for result in summary["thresholds"]:
        tone = {"met": "good", "failed": "bad"}.get(result["status"], "warn")
        badges.append(Badge(text=f"threshold {result['status']}: {result['text']}", tone=tone))
    if summary["ending"] != "complete":
        badges.append(Badge(text=f"run {summary['ending'].replace('_', ' ')}", tone="bad"))
    if summary["quick"]:
        badges.append(Badge(text="quick run: wide intervals", tone="warn"))
    return tuple(badges)


def _card(name: str, topology: Mapping[str, Any], unit: str) -> Card:
    capacity = topology["capacity"]
    gpus = topology["gpus"]
    subtitle = topology["kind"] if gpus is None else f"{topology['kind']}, {gpus['count']} × {gpus['type']}"

    def at(key: str) -> str:
        return view.load_words(capacity[key], unit)

    def fact(label: str, key: str) -> Fact:
        return Fact(name=label, value=view.value_only(capacity[key]), interval=view.bounds(capacity[key]))

    facts = [
        fact("Saturation, output tokens/s", "output_tokens_per_s"),
        Fact(name="reached at", value=at("saturation_load")),
        fact("Goodput, requests/s", "goodput_rps"),
        Fact(name="Recommended load", value=at("recommended_load")),
        Fact(name="SLO capacity", value=at("slo_capacity_load")),
        Fact(name="Knee", value=at("knee_load")),
        Fact(name="Latency doubles at", value=at("latency_doubling_load")),
        Fact(name="First failure at", value=at("failure_load")),
        fact("Output tokens/s per GPU", "output_tokens_per_s_per_gpu"),
        fact("USD per 1M output tokens", "usd_per_million_output_tokens"),
        fact("USD per 1M requests", "usd_per_million_requests"),
    ]
    known = tuple(one for one in facts if one.value != view.ABSENT)
    return Card(
        topology=name,
        subtitle=subtitle,
        facts=known,
        notes=tuple(finding["message"] for finding in capacity["findings"]),
    )


_STEP_RATIOS = (
    ("Throughput", "throughput_ratio"),
    ("Requests/s", "requests_ratio"),
    ("TTFT p50", "ttft_p50_ratio"),
    ("ITL p50", "itl_p50_ratio"),
    ("E2E p50", "e2e_p50_ratio"),
)
_CAPACITY_RATIOS = (
    ("Throughput at capacity", "throughput_ratio"),
    ("Goodput at capacity", "goodput_ratio"),
    ("Throughput per GPU", "throughput_per_gpu_ratio"),
    ("USD per 1M output tokens", "usd_per_million_output_tokens_ratio"),
)


def _versus(one: Mapping[str, Any], unit: str) -> Versus:
    crossings = (
        ("Throughput is equal near", one["throughput_crossover_load"]),
        ("Median E2E is equal near", one["latency_crossover_load"]),
    )
    return Versus(
        title=f"{one['other']} / {one['first']}",
        columns=tuple(label for label, _ in _STEP_RATIOS),
        at_capacity=tuple(
            RatioRow(label=label, ratios=(one[key],))
            for label, key in _CAPACITY_RATIOS
            if one[key]["value"] is not None
        ),
        by_load=tuple(
            RatioRow(label=view.load_words(step["load"], unit), ratios=tuple(step[key] for _, key in _STEP_RATIOS))
            for step in one["steps"]
        ),
        crossings=tuple(
            Fact(name=label, value=f"{view.value_only(found)} {unit}", interval=view.bounds(found))
            for label, found in crossings
            if found["low"] is not None  # without an interval it may be noise, and a finding says so
        ),
        findings=tuple(one["findings"]),
    )


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
