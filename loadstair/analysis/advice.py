"""The answer in a sentence: only what the intervals support."""

from collections.abc import Mapping, Sequence

from loadstair.analysis.comparison.compare import Comparison, StepComparison, claim
from loadstair.analysis.staircase.capacity import Capacity
from loadstair.analysis.statistics.estimate import Estimate, inverse
from loadstair.plan.model import LoadMode, load_unit, load_words


def advice(capacities: Mapping[str, Capacity], comparisons: Sequence[Comparison], mode: LoadMode) -> str:
    """`capacities` by topology, in the plan's order."""
    measured = {name: one for name, one in capacities.items() if one.output_tokens_per_s.value is not None}
    if not measured:
        return "No step of any topology is valid: nothing can be recommended; the reasons stand with each step."
    lost = [name for name in capacities if name not in measured]
    sentences = [f"{', '.join(lost)}: no valid step, so nothing can be said of it."] if lost else []
    usable = [one for one in comparisons if one.first in measured and one.other in measured]
    if usable:
        sentences += [_compared(one, mode) for one in usable]
    else:
        sentences += [_alone(name, one, mode) for name, one in measured.items()]
    sentences += [
        f"{name} violates the SLO from {_load(one.slo_violated_load, mode)} on."
        for name, one in measured.items()
        if one.slo_violated_load is not None
    ]
    cut_off = [name for name, one in measured.items() if one.cut_off]
    if cut_off:
        sentences.append(
            f"The capacity of {' and '.join(cut_off)} may lie higher: the steps above the best are invalid."
        )
    return " ".join(sentences)


def _alone(name: str, one: Capacity, mode: LoadMode) -> str:
    tokens = _amount(one.output_tokens_per_s)
    text = f"{name} carries up to {tokens} output tokens/s, at {_load(one.saturation_load, mode)}"
    if one.recommended_load is not None and one.recommended_load != one.saturation_load:
        text += f"; run it up to {_load(one.recommended_load, mode)}"
    return text + "."


def _compared(one: Comparison, mode: LoadMode) -> str:
    said = [text for text in (_carries(one, mode), _sooner(one, mode)) if text is not None]
    if not said:
        said = [f"Nothing sets {one.other} and {one.first} apart beyond the noise"]
    caveat = "" if one.caveat is None else f" Mind that {one.caveat}."
    return "; ".join(said) + "." + caveat


def _carries(one: Comparison, mode: LoadMode) -> str | None:
    """Who carries how much more: at capacity, and at the highest load valid on both sides where that says more."""
    highest = one.steps[-1] if one.steps else None
    peak = one.throughput_ratio
    if highest is not None and (peak.value is None or peak.value == highest.throughput_ratio.value):
        text = _tokens(one, highest.throughput_ratio, f" at {_load(highest.load, mode)}")
        return text + _each(one.unequal, highest)
    if peak.value is None:
        return None
    text = _tokens(one, peak, " at capacity") + _each(one.unequal, one)
    if highest is not None and claim(highest.throughput_ratio) is not None:
        text += f", {_interval(highest.throughput_ratio)} at {_load(highest.load, mode)}"
    return text


def _tokens(one: Comparison, ratio: Estimate, where: str) -> str:
    if claim(ratio) is None:
        return (
            f"The throughput of {one.other} and {one.first}{where} cannot be told apart ({_interval(ratio)} the tokens)"
        )
    return f"{one.other} carries {_interval(ratio)} the tokens of {one.first}{where}"


def _each(unequal: bool, one: Comparison | StepComparison) -> str:
    """Where the hardware differs, what it comes to for each GPU and each dollar."""
    told = [f"{_interval(one.throughput_per_gpu_ratio)} per GPU"] if one.throughput_per_gpu_ratio.value else []
    usd = inverse(one.usd_per_million_output_tokens_ratio, 1.0)
    told += [f"{_interval(usd)} per dollar"] if usd.value else []
    return f" ({', '.join(told)})" if unequal and told else ""


def _sooner(one: Comparison, mode: LoadMode) -> str | None:
    """Who finishes requests sooner, and below which load; None where no step's interval says.

    In a closed loop the same users with the same requests get more tokens per second exactly where each request
    takes less time (Little's law), and throughput tells it far more precisely than the median of requests of many
    lengths. In an open loop throughput is what was offered, so the median tells.
    """
    closed = mode is LoadMode.CLOSED
    told: list[tuple[StepComparison, str]] = []
    for step in one.steps:
        said = claim(step.throughput_ratio if closed else step.e2e_p50_ratio)
        if said is not None:
            told.append((step, one.other if (said == "higher") is closed else one.first))
    if not told:
        return None
    low, high = told[0][1], told[-1][1]
    crossing = one.throughput_crossover_load if closed else one.latency_crossover_load
    if low != high and crossing.value is not None:
        return f"below about {_rounded(crossing)} {load_unit(mode)} {low} finishes requests sooner"
    who = {name for _, name in told}
    if len(who) > 1:
        return None
    if len(told) == len(one.steps) > 1:
        return f"{low} finishes requests sooner at every load compared"
    *others, last = [step.load for step, _ in told]
    loads = "".join(f"{load:g}, " for load in others) + _load(last, mode)
    return f"{low} finishes requests sooner at {loads}"


def _rounded(load: Estimate) -> str:
    """A load between steps: two digits are all it has."""
    if load.low is None or load.high is None:
        return f"{load.value:.2g}"
    return f"{load.value:.2g} [{load.low:.2g}, {load.high:.2g}]"


def _interval(ratio: Estimate) -> str:
    if ratio.value is None:
        return "an unknown multiple of"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3g}×"
    return f"{ratio.value:.3g}× [{ratio.low:.3g}, {ratio.high:.3g}]"


def _amount(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "an unknown number of"
    return f"{estimate.value:,.0f} [{estimate.low:,.0f}, {estimate.high:,.0f}]"


def _load(load: float | None, mode: LoadMode) -> str:
    if load is None:
        return "an unknown load"
    return load_words(load, mode)
