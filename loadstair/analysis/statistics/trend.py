"""The slope of a series of windows over time, with an interval that respects autocorrelation.

Least squares over the windows. What correlation the residuals of neighbouring windows have widens the error as it would
for an AR(1) series, and costs degrees of freedom. A series that wanders without a direction (a random walk) has
residuals so correlated that little is left to claim: that is meant.
Source: Santer et al. (2000), Statistical significance of trends, for the effective sample size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.statistics.bootstrap import CONFIDENCE, lag_one_correlation
from loadstair.analysis.statistics.distributions import t_quantile, t_two_sided
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.step.latency import FloatArray

WINDOWS_MIN = 12
"""Below that the correlation of the residuals cannot be told from noise, nor the slope from one odd window."""
CORRELATION_MAX = 0.95
ROUNDING = 1e-12
"""Of the values: differences below it are those of floating point, no noise and no slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Per unit of the time it was given."""

    value: float
    error: float
    """Standard error, widened for autocorrelation."""
    degrees: float
    windows: int
    level: float
    """Mean of the windows."""

    @property
    def p_value(self) -> float:
        """Of so steep a slope, either way, were there none."""
        if self.error == 0:
            return 0.0 if self.value else 1.0
        return t_two_sided(self.value / self.error, self.degrees)

    def estimate(self, findings: tuple[Finding, ...] = ()) -> Estimate:
        half = self.error * t_quantile(0.5 + CONFIDENCE / 2, self.degrees)
        return Estimate(
            value=self.value, low=self.value - half, high=self.value + half, n=self.windows, findings=findings
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """By least squares."""

    rise: float
    level: float
    """At the mean of the times."""
    residuals: FloatArray
    spread: float
    """Sum of the squares of the times, from their mean."""

    def error(self) -> float:
        """Standard error of the rise, of residuals that are independent of each other."""
        return math.sqrt(float(self.residuals @ self.residuals) / (len(self.residuals) - 2) / self.spread)


def line(time: FloatArray, values: FloatArray) -> Line:
    """Both of shape [3 or more]. Differences in the values that are those of rounding are none."""
    at, level = time - time.mean(), float(values.mean())
    spread = float(at @ at)
    rounding = ROUNDING * float(np.abs(values).max())
    rise = float(at @ values) / spread if np.ptp(values) > rounding else 0.0
    residuals = values - level - rise * at
    if float(np.abs(residuals).max()) <= rounding:
        residuals = np.zeros(len(values))
    return Line(rise=rise, level=level, residuals=residuals, spread=spread)


def slope(time: FloatArray, values: FloatArray) -> Slope | None:
    """Both of shape [windows], NaN where a window has no value; None with fewer than WINDOWS_MIN that have one."""
    told = ~np.isnan(values)
    count = int(told.sum())
    if count < WINDOWS_MIN:
        return None
    found = line(time[told], values[told])
    # Residuals of a fitted line look less correlated than the noise is: by (2 + 4 ρ) / count, and by chance less still,
    # which costs more coverage than the opposite wins.
    correlation = (lag_one_correlation(found.residuals) * count + 3) / (count - 4)
    correlation = min(max(0.0, correlation), CORRELATION_MAX)
    inflation = (1 + correlation) / (1 - correlation)
    degrees = max(1.0, count / inflation - 2)
    error = found.error() * math.sqrt(inflation)
    return Slope(value=found.rise, error=error, degrees=degrees, windows=count, level=found.level)


def pooled(slopes: Sequence[Slope]) -> Slope:
    """The mean over repeats; at least one. The doubt is that within the repeats or that between them, whichever is
    wider."""
    count = len(slopes)
    value = float(np.mean([one.value for one in slopes]))
    within = Slope(
        value=value,
        error=math.sqrt(sum(one.error**2 for one in slopes)) / count,
        degrees=min(one.degrees for one in slopes),
        windows=sum(one.windows for one in slopes),
        level=float(np.mean([one.level for one in slopes])),
    )
    if count == 1:
        return within
    between = Slope(
        value=value,
        error=float(np.std([one.value for one in slopes], ddof=1)) / math.sqrt(count),
        degrees=count - 1,
        windows=within.windows,
        level=within.level,
    )
    return max(within, between, key=lambda one: one.p_value)
