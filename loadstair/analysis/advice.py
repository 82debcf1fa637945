"""The answer in a sentence: only what the intervals support."""

from collections.abc import Mapping, Sequence

from loadstair.analysis.capacity import Capacity
from loadstair.analysis.compare import Comparison, StepComparison, claim
from loadstair.analysis.estimate import Estimate
from loadstair.plan.model import LoadMode


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
    said = [text for text in (_at_capacity(one), _at_highest(one, mode)) if text is not None]
    latency = _latency(one, mode)
    if latency is not None:
        said.append(latency)
    if not said:
        return f"Nothing sets {one.other} and {one.first} apart beyond the noise."
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "." if text.startswith("at ") else text + "."


def _at_capacity(one: Comparison) -> str | None:
    """None where there is no comparison at capacity."""
    if one.throughput_ratio.value is None:
        return None
    times = _interval(one.throughput_ratio, times=True)
    if claim(one.throughput_ratio) is None:
        return f"at capacity, the throughput of {one.other} and {one.first} cannot be told apart ({times} the tokens)"
    return f"at capacity, {one.other} carries {times} the tokens of {one.first}"


def _at_highest(one: Comparison, mode: LoadMode) -> str | None:
    """The highest load valid on both sides; None if nothing can be claimed there, or it has just been said."""
    highest = one.steps[-1] if one.steps else None
    if highest is None or claim(highest.throughput_ratio) is None or _same(one.throughput_ratio, highest):
        return None
    times = _interval(highest.throughput_ratio, times=True)
    if one.throughput_ratio.value is not None:
        return f"at {_load(highest.load, mode)} {times}"
    return f"at {_load(highest.load, mode)}, {one.other} carries {times} the tokens of {one.first}"


def _same(peak: Estimate, highest: StepComparison) -> bool:
    """Both sides peak at the highest load: saying it twice would look like two results."""
    return peak.value == highest.throughput_ratio.value


def _latency(one: Comparison, mode: LoadMode) -> str | None:
    """Who finishes requests sooner, and below which load; None where no step's interval says."""
    claims = [(step, claim(step.e2e_p50_ratio)) for step in one.steps]
    told = [(step, said) for step, said in claims if said is not None]
    if not told:
        return None
    sooner_low = _sooner(one, told[0])
    crossing = one.latency_crossover_load
    if crossing.value is not None and crossing.low is not None and told[0][1] != told[-1][1]:
        ends = _interval(crossing, times=False)
        return (
            f"below about {ends} {_unit(mode)} {sooner_low} finishes requests sooner, above it {_sooner(one, told[-1])}"
        )
    if len({said for _, said in told}) > 1:
        return None
    if len(told) == len(claims) > 1:
        return f"{sooner_low} finishes requests sooner at every load compared"
    *others, last = [step.load for step, _ in told]
    loads = "".join(f"{load:g}, " for load in others) + _load(last, mode)
    return f"{sooner_low} finishes requests sooner at {loads}"


def _sooner(one: Comparison, told: tuple[StepComparison, str]) -> str:
    return one.other if told[1] == "lower" else one.first


def _interval(estimate: Estimate, *, times: bool) -> str:
    sign = "×" if times else ""
    if estimate.value is None:
        return "an unknown multiple of"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}{sign}"
    return f"{estimate.value:.3g}{sign} [{estimate.low:.3g}, {estimate.high:.3g}]"


def _amount(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "an unknown number of"
    return f"{estimate.value:,.0f} [{estimate.low:,.0f}, {estimate.high:,.0f}]"


def _load(load: float | None, mode: LoadMode) -> str:
    if load is None:
        return "an unknown load"
    return "1 user" if load == 1 and mode is LoadMode.CLOSED else f"{load:g} {_unit(mode)}"


def _unit(mode: LoadMode) -> str:
    return "users" if mode is LoadMode.CLOSED else "requests/s"
