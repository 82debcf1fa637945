"""What a drift means and what to do: when one is large enough to matter, and the words for it."""

from collections.abc import Sequence

from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.statistics.trend import WINDOWS_MIN
from loadstair.plan.model import LoadMode, load_words

SHARE_MIN = 0.05
"""Of the level, over the hold or an hour, whichever is longer: less is no reason to act."""
CHANGE_MIN = {"error_rate": 0.001, "requests_waiting": 1.0, "kv_usage": 0.02, "in_flight": 0.5}
"""What the change must also come to where the level may be near nothing: in the series' own unit."""
MEMORY_SHARE_MIN = 0.01
HOURS_UNTIL_FULL_MIN = 720.0
"""A memory that is full within 30 days matters however slowly it grows."""
S_PER_HOUR = 3600.0
GIB = 2.0**30

UNITS = {"output_tokens_per_s": "tokens/s", "requests_waiting": "requests", "in_flight": "requests"}
GOOD = {"output_tokens_per_s": "rises"}
"""Everything else is better when it falls."""

WHAT_TO_DO = {
    "ttft_ms": "look at requests_waiting and kv_usage over the same time, and at what the engine keeps of requests",
    "itl_ms": "look at kv_usage and preemptions, the GPU's clocks and temperature, and neighbours on the machine",
    "tpot_ms": "look at kv_usage and preemptions, the GPU's clocks and temperature, and neighbours on the machine",
    "e2e_ms": "see which of TTFT and TPOT it comes from",
    "output_tokens_per_s": "it carries less the longer it runs: restart it and soak again to see whether that cures it",
    "in_flight": "requests pile up: the load may be more than it carries for long; soak a lower one",
    "error_rate": "read the engines' logs from when it began; the outcomes stand with the step",
    "requests_waiting": "the queue grows: the load is more than it carries for long; soak a lower one",
    "kv_usage": "blocks are not given back, or the cache fragments: compare with the requests running",
    "gpu_memory_bytes": "look for a leak: a fragmenting allocator, graphs captured anew, caches never freed",
    "engine_memory_bytes": "look for a leak in the server's process: request logs, histories, tokenizer caches",
}


def is_material(name: str, per_hour: float, level: float, hold_s: float) -> bool:
    change = abs(per_hour) * max(1.0, hold_s / S_PER_HOUR)
    return change >= max(SHARE_MIN * abs(level), CHANGE_MIN.get(name, 0.0))


def memory_material(per_hour: float, level: float, hours_until_full: float | None, hold_s: float) -> bool:
    if per_hour > 0 and hours_until_full is not None and hours_until_full < HOURS_UNTIL_FULL_MIN:
        return True
    return abs(per_hour) * max(1.0, hold_s / S_PER_HOUR) >= MEMORY_SHARE_MIN * abs(level)


def drift_finding(
    name: str,
    claim: str,
    drift: Estimate,
    share: float | None,
    hold_s: float,
    hours_until_full: float | None,
) -> Finding:
    """`claim`: rises or falls. A drift to the better is told as what it is: a warm-up that was not over."""
    text = f"{_label(name)} {claim} by {_per_hour(name, drift)} an hour"
    if share is not None:
        text += f" ({abs(share):.1%} over the hold of {_minutes(hold_s)})"
    if hours_until_full is not None:
        text += f"; at that rate it is full in {hours_until_full:,.0f} h"
    if claim == GOOD.get(name, "falls"):
        message = f"{text}: the hold began before it had settled; lengthen load.warmup_s"
        return Finding.info(f"soak.settling.{name}", message)
    return Finding.warning(f"soak.drift.{name}", f"{text}: {WHAT_TO_DO[name.split('.')[0]]}")


def hold_findings(hold_s: float, *, memory_known: bool, queue_grows: bool) -> tuple[Finding, ...]:
    findings = []
    if queue_grows:
        findings.append(
            Finding.warning(
                "soak.overload",
                "the queue grew all through the hold, so latencies that rise may be the load's doing, no ageing of the "
                "server's: soak a load below the recommended one",
            )
        )
    if hold_s < S_PER_HOUR:
        findings.append(
            Finding.info(
                "soak.short",
                f"drifts are told per hour but were seen over {_minutes(hold_s)}: for what takes hours to show, "
                "lengthen load.hold_s",
            )
        )
    if not memory_known:
        findings.append(
            Finding.info(
                "soak.memory_unknown",
                "nobody told the server's memory: for an external topology name a DCGM exporter's page, and the "
                "engines' own, in metrics",
            )
        )
    return tuple(findings)


def too_few_in_window(name: str, windows: int) -> Finding:
    return Finding.info(
        "soak.windows",
        f"{_label(name)}: a drift needs {WINDOWS_MIN} windows with enough samples, {windows} have them; lengthen "
        "load.hold_s",
    )


def soak_sentence(name: str, load: float, mode: LoadMode, hold_s: float, worse: Sequence[str], *, valid: bool) -> str:
    """The answer of one topology's soak. `worse`: the series that a drift to the worse is claimed of."""
    if not valid:
        return f"{name}: its soak is invalid, so nothing can be said of it; the reasons stand with the step."
    held = f"{name} held {load_words(load, mode)} for {_minutes(hold_s)}"
    if not worse:
        return f"{held}, and nothing that was followed is shown to get worse."
    labels = [_label(one) for one in worse]
    listed = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
    return f"{held}, but {listed} got worse over that time."


def is_worse(name: str, claim: str | None) -> bool:
    return claim is not None and claim != GOOD.get(name, "falls")


def _label(name: str) -> str:
    """`TTFT p99`, `GPU memory`."""
    words = {
        "output_tokens_per_s": "output tokens/s",
        "in_flight": "requests in flight",
        "error_rate": "the error rate",
        "requests_waiting": "the queue",
        "kv_usage": "KV cache use",
        "gpu_memory_bytes": "GPU memory",
        "engine_memory_bytes": "the engines' host memory",
    }
    if name in words:
        return words[name]
    metric, percentile = name.split(".")
    return f"{metric.removesuffix('_ms').upper()} {percentile}"


def _per_hour(name: str, drift: Estimate) -> str:
    low, value, high = (abs(one or 0.0) for one in (drift.low, drift.value, drift.high))
    low, high = min(low, high), max(low, high)
    if name.endswith("memory_bytes"):
        return f"{value / GIB:.3g} GiB [{low / GIB:.3g}, {high / GIB:.3g}]"
    unit = "ms" if "_ms." in name else UNITS.get(name, "")
    if name in ("error_rate", "kv_usage"):
        return f"{value * 100:.3g} points [{low * 100:.3g}, {high * 100:.3g}]"
    return f"{value:.3g} {unit} [{low:.3g}, {high:.3g}]"


def _minutes(seconds: float) -> str:
    if seconds >= 2 * S_PER_HOUR:
        return f"{seconds / S_PER_HOUR:.3g} h"
    return f"{seconds / 60:.3g} min" if seconds >= 120 else f"{seconds:.3g} s"
