"""A number travels with its doubt."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INVALID = "invalid"
    """The measurement must not be used."""
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    id: str
    """Stable, for programs: `generator.saturated`."""
    severity: Severity
    message: str
    """One line: what was seen, and what to do."""

    @classmethod
    def invalid(cls, id_: str, message: str) -> "Finding":
        return cls(id=id_, severity=Severity.INVALID, message=message)

    @classmethod
    def warning(cls, id_: str, message: str) -> "Finding":
        return cls(id=id_, severity=Severity.WARNING, message=message)

    @classmethod
    def info(cls, id_: str, message: str) -> "Finding":
        return cls(id=id_, severity=Severity.INFO, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval. All None where there is nothing to estimate it from; low and high None where
    there is a value but no way to tell its error."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Samples below the number: requests, gaps or tokens."""
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and (
            self.value is None or self.high is None or not self.low <= self.value <= self.high
        ):
            raise ValueError(f"{self.value} does not lie in [{self.low}, {self.high}]")

    @classmethod
    def nothing(cls, n: int = 0, findings: tuple[Finding, ...] = ()) -> "Estimate":
        return cls(value=None, low=None, high=None, n=n, findings=findings)


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate times a known positive constant."""
    if estimate.value is None:
        return estimate
    return Estimate(
        value=estimate.value * factor,
        low=None if estimate.low is None else estimate.low * factor,
        high=None if estimate.high is None else estimate.high * factor,
        n=estimate.n,
        findings=estimate.findings,
    )


def inverse(estimate: Estimate, numerator: float) -> Estimate:
    """numerator / estimate, for a positive numerator.

    Nothing without a positive value; without an interval where that of the estimate reaches zero.
    """
    if estimate.value is None or estimate.value <= 0:
        return Estimate.nothing(estimate.n, estimate.findings)
    if estimate.low is None or estimate.high is None or estimate.low <= 0:
        return Estimate(value=numerator / estimate.value, low=None, high=None, n=estimate.n, findings=estimate.findings)
    return Estimate(
        value=numerator / estimate.value,
        low=numerator / estimate.high,
        high=numerator / estimate.low,
        n=estimate.n,
        findings=estimate.findings,
    )
