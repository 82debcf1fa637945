"""The words for what a spike showed, and what to do."""

from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.plan.model import LoadMode, load_unit


def never_lost_finding() -> Finding:
    return Finding.info("spike.held", "the SLO was never lost: the surge is within what the topology carries")


def not_recovered_finding(lost: int, repeats: int, observed_s: float) -> Finding:
    which = "" if repeats == 1 else f" in {lost} of {repeats} repeats"
    return Finding.warning(
        "spike.not_recovered",
        f"the SLO did not hold again{which} within the {observed_s:.0f} s watched after the surge: the recovery takes "
        "longer than that; lengthen load.recovery_s to see how long, or shed load during a surge",
    )


def slo_before_finding() -> Finding:
    return Finding.warning(
        "spike.slo_before",
        "the usual load did not meet the SLO before the surge, so there was nothing to recover: lower the first of "
        "load.steps, or raise the limits",
    )


def too_few_finding(size: int) -> Finding:
    return Finding.warning(
        "spike.few",
        f"the recovery cannot be told from fewer than {size} requests after the surge: lengthen load.recovery_s",
    )


def one_surge_finding() -> Finding:
    return Finding.info(
        "spike.one_surge",
        "the interval is that of this one surge; how much the next one would differ takes load.repeats above 1",
    )


def findings_of(*, failed: int, requests: int, never_lost: bool, invalid: tuple[str, ...]) -> tuple[Finding, ...]:
    findings = []
    if invalid:
        findings.append(Finding.warning("spike.invalid", f"no surge is valid: {'; '.join(dict.fromkeys(invalid))}"))
    if failed:
        findings.append(
            Finding.warning(
                "spike.failed",
                f"{failed} of {requests} requests failed from the surge's start on; their outcomes stand with the "
                "steps",
            )
        )
    if never_lost and not invalid:
        findings.append(never_lost_finding())
    return tuple(findings)


def spike_sentence(
    name: str,
    mode: LoadMode,
    *,
    loads: tuple[float, float],
    valid: bool,
    lost: bool,
    recovery_s: Estimate,
) -> str:
    """The answer of one topology's spike. `loads`: usual, surge."""
    surge = f"a surge from {loads[0]:g} to {loads[1]:g} {load_unit(mode)}"
    if not valid:
        return f"{name}: its spike is invalid, so nothing can be said of it; the reasons stand with the steps."
    if not lost and recovery_s.value is not None:
        return f"{name} keeps the SLO through {surge}."
    if recovery_s.value is None:
        why = recovery_s.findings[0].message if recovery_s.findings else "it was not measured"
        return f"{name}, {surge}: {why}."
    if recovery_s.value == 0:
        return f"{name} loses the SLO at first in {surge}, and holds it again before the surge ends."
    interval = "" if recovery_s.low is None else f" [{recovery_s.low:.1f}, {recovery_s.high:.1f}]"
    return (
        f"{name} loses the SLO in {surge}, and holds it again {recovery_s.value:.1f}{interval} s after the surge ends."
    )
