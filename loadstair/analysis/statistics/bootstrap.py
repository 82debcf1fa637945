"""95 % intervals that respect autocorrelation within a step and take repeats as the unit between steps.

Within one step, successive slices and requests resemble each other (they share batches, queues and caches), so blocks
are resampled, not single values. Between repeats lies what no single step can show: restarts, placement, temperature;
with two repeats or more, the interval is the wider of the one from blocks and Student's t over the repeats. With two
repeats that t has one degree of freedom and is wide: that is what two repeats tell.

An interval from resampling cannot reach beyond the largest value seen, so a percentile has one only where several
values are expected beyond it (`enough_to_bound`); below that there is a value alone.
Sources: Davison & Hinkley, Bootstrap Methods (1997), ch. 8; Politis & White (2004) for the block length.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from loadstair.analysis.statistics.distributions import normal_quantile, t_quantile, t_quantiles
from loadstair.analysis.statistics.estimate import Estimate, Finding
from loadstair.analysis.statistics.weighted import Ordered, ordered
from loadstair.analysis.step.latency import FloatArray
from loadstair.analysis.step.throughput import SlicedRate
from loadstair.samples.frame import IntArray

DRAWS = 600
CONFIDENCE = 0.95
BATCHES = 16
BLOCKS_MAX = 64
"""As many as a uint8 tells apart."""
BINS_MAX = 512
BEYOND_MIN = 5
CORRELATION_MAX = 0.98
DEGREES_MIN = 0.25
CHANCE = 1.645
"""Standard errors: what one independent series in twenty has as its lag-one correlation."""
SMALLEST_SHARE = 1e-6
BlockArray = npt.NDArray[np.uint8]
Z = normal_quantile(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number with draws from its sampling distribution, so that ratios and crossings inherit its doubt."""

    value: float
    by_repeat: Mapping[int, float]
    """The same number from each repeat alone; all within one repeat has one entry."""
    within: FloatArray
    """Shape [DRAWS]: the number as blocks within the steps let it vary."""
    draws: FloatArray
    """Shape [DRAWS]: `within`, or as the repeats let it vary where that is wider."""
    n: int
    bounded: bool = True
    """False where there are too few samples to tell an interval from."""

    def estimate(self, findings: tuple[Finding, ...] = ()) -> Estimate:
        if not self.bounded:
            return Estimate(value=self.value, low=None, high=None, n=self.n, findings=findings)
        low, high = interval(self.draws)
        return Estimate(
            value=self.value,
            low=min(low, self.value),
            high=max(high, self.value),
            n=self.n,
            findings=findings,
        )


def interval(draws: FloatArray) -> tuple[float, float]:
    # "hazen" takes the n-th of N draws for the quantile (n - ½) / N: where `student_draws` puts it.
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="hazen")
    return float(low), float(high)


def measured(
    *,
    value: float,
    by_repeat: Mapping[int, float],
    within: FloatArray,
    n: int,
    rng: np.random.Generator,
) -> Measured:
    """Combines the doubt within the steps with that between the repeats."""
    between = between_draws(value, list(by_repeat.values()), rng)
    draws = within if between is None or _width(within) >= _width(between) else between
    return Measured(value=value, by_repeat=dict(by_repeat), within=within, draws=draws, n=n)


def student_draws(degrees: float, rng: np.random.Generator) -> FloatArray:
    """Student's t at DRAWS equally likely levels, in random order; shape [DRAWS].

    Not sampled: with one degree of freedom the quantiles of 600 random values scatter by tens of percent, and an
    interval would be as wide as the seed has it. The order is what randomness is left, so that two numbers' draws
    do not belong together.
    """
    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    return np.asarray(rng.permutation(t_quantiles(levels, degrees)), dtype=np.float64)


def between_draws(value: float, by_repeat: Sequence[float], rng: np.random.Generator) -> FloatArray | None:
    """Draws around `value` by Student's t over the repeats; None with fewer than two.

    In logarithms where all are positive, so that a wide interval does not reach below zero.
    """
    count = len(by_repeat)
    if count < 2:
        return None
    repeats = np.asarray(by_repeat, dtype=np.float64)
    deviates = student_draws(count - 1, rng)
    if value > 0 and bool((repeats > 0).all()):
        # Bounded: with one degree of freedom single draws lie beyond what exp() can hold.
        exponents = deviates * np.log(repeats).std(ddof=1) / math.sqrt(count)
        return np.asarray(value * np.exp(np.clip(exponents, -50, 50)), dtype=np.float64)
    return _not_negative(value + deviates * repeats.std(ddof=1) / math.sqrt(count))


def rate_measured(rates: Mapping[int, SlicedRate], rng: np.random.Generator) -> Measured:
    """A rate per second from the hold windows of the repeats, which have equal weight. Raises ValueError for none."""
    if not rates:
        raise ValueError("a rate needs at least one window")
    draws = np.stack([batch_means_draws(rate.per_slice, rng) for rate in rates.values()])
    return measured(
        value=float(np.mean([rate.mean for rate in rates.values()])),
        by_repeat={repeat: rate.mean for repeat, rate in rates.items()},
        within=draws.mean(axis=0),
        n=sum(rate.n for rate in rates.values()),
        rng=rng,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMeans:
    """The mean of a stationary series, and Student's t for its error."""

    mean: float
    error: float
    """Standard error."""
    degrees: float

    @property
    def half_width(self) -> float:
        """Of the interval."""
        return self.error * t_quantile(0.5 + CONFIDENCE / 2, self.degrees)


def batch_means(per_slice: FloatArray) -> BatchMeans:
    """At least two slices.

    What correlation is left between neighbouring batches widens the interval as it would for an AR(1) series, and
    costs degrees of freedom. Negative correlation is taken as none: it would narrow the interval on thin evidence.
    """
    batches = np.array([part.mean() for part in np.array_split(per_slice, min(BATCHES, len(per_slice)))])
    count = len(batches)
    # The estimate of a correlation from `count` values is about 1/count too low.
    correlation = min(max(0.0, lag_one_correlation(batches) + 1 / count), 0.9)
    inflation = (1 + correlation) / (1 - correlation)
    return BatchMeans(
        mean=float(batches.mean()),
        error=math.sqrt(batches.var(ddof=1) / count * inflation),
        degrees=max(2.0, count / inflation - 1),
    )


def batch_means_draws(per_slice: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draws of the mean of a stationary series by batch means, shape [DRAWS]."""
    found = batch_means(per_slice)
    return _not_negative(found.mean + found.error * student_draws(found.degrees, rng))


def lag_one_correlation(series: FloatArray) -> float:
    """0.0 for a series without variation, or of fewer than three values."""
    centred = series - series.mean() if len(series) else series
    variance = float(centred @ centred)
    if len(series) < 3 or variance == 0:
        return 0.0
    return float(centred[1:] @ centred[:-1]) / variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Values of one step of one visit, each in a block of neighbours in time."""

    values: FloatArray
    block: BlockArray
    """Shape as `values`: 0 … blocks-1."""
    blocks: int
    degrees: float
    """Of freedom of the spread between blocks; blocks - 1 where they are independent of each other, fewer where not."""
    effective: float
    """Independent samples that these are worth."""
    weight: FloatArray | None = None
    """Shape as `values`: how many samples each stands for; None: one each."""

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.values) if self.weight is None else int(self.weight.sum())

    @property
    def mean(self) -> float:
        return float(np.average(self.values, weights=self.weight))

    def each(self) -> FloatArray:
        """A value for every sample: for few."""
        return self.values if self.weight is None else np.repeat(self.values, self.weight.astype(np.int64))

    def beyond(self, limit: float) -> int:
        """Samples above the limit."""
        above = self.values > limit
        return int(np.count_nonzero(above) if self.weight is None else self.weight[above].sum())


def blocked(values: FloatArray, unit: IntArray, unit_level: FloatArray) -> Blocked:
    """Values in blocks of consecutive units (requests in the order of dispatch; all gaps of a request stay together).

    The block length follows the autocorrelation of `unit_level` (one value for each unit, shape [units]).
    """
    cut = blocks_of(unit_level)
    return cut.holding(values, cut.block[unit], None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A series of units cut into blocks of neighbours."""

    level: FloatArray
    """Shape [units]."""
    block: BlockArray
    """Shape [units], ascending."""
    blocks: int
    degrees: float
    correlated: float
    """The lag-one correlation of the units as far as it is more than chance."""

    def holding(self, values: FloatArray, block: BlockArray, weight: FloatArray | None) -> Blocked:
        """These values of the units, each with its block."""
        return Blocked(
            values=values,
            block=block,
            blocks=self.blocks,
            degrees=self.degrees,
            effective=self.effective(values, weight),
            weight=weight,
        )

    def effective(self, values: FloatArray, weight: FloatArray | None) -> float:
        """Independent samples that these values of the units are worth: a mean varies as that of so many would.

        Fewer than there are where neighbours resemble each other, and where the values of one unit do.
        """
        n = len(values) if weight is None else float(weight.sum())
        if n == 0:
            return 0.0
        mean = float(np.average(values, weights=weight))
        variance = float(np.average((values - mean) ** 2, weights=weight))
        alike = n / len(self.level) * float(self.level.var()) / variance if variance > 0 else 1.0
        return float(n / max(1.0, alike)) * (1 - self.correlated) / (1 + self.correlated)


def blocks_of(unit_level: FloatArray) -> Blocks:
    units = len(unit_level)
    if not units:
        return Blocks(level=unit_level, block=np.zeros(0, np.uint8), blocks=1, degrees=0.0, correlated=0.0)
    correlation = _correlation(unit_level)
    blocks = max(1, min(units, max(4, round(units / block_length(unit_level))), BLOCKS_MAX))
    return Blocks(
        level=unit_level,
        block=(np.arange(units) * blocks // units).astype(np.uint8),
        blocks=blocks,
        degrees=_variance_of_mean(units / blocks, correlation) / _variance_of_mean(units, correlation) - 1,
        correlated=max(0.0, correlation - CHANCE / math.sqrt(units)),
    )


def block_length(series: FloatArray) -> int:
    """Politis & White's length for an AR(1) series, 1.14 (2ρ / (1 - ρ²))^⅔ n^⅓; at least 1."""
    correlation = _correlation(series)
    return max(1, math.ceil(1.14 * math.cbrt((2 * correlation / (1 - correlation**2)) ** 2 * len(series))))


def _correlation(series: FloatArray) -> float:
    """Lag-one, 0 … CORRELATION_MAX. What is estimated from n values is (1 + 4ρ) / n too low (Kendall 1954)."""
    found = lag_one_correlation(series)
    if found <= 0:
        return 0.0
    return min(found + (1 + 4 * found) / len(series), CORRELATION_MAX)


def _variance_of_mean(count: float, correlation: float) -> float:
    """Of so many successive values of an AR(1) series of variance 1."""
    left_out = 2 * correlation * (1 - math.pow(correlation, count)) / (count * (1 - correlation) ** 2)
    return ((1 + correlation) / (1 - correlation) - left_out) / count


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Mean and percentiles of one metric, pooled over repeats."""

    n: int
    effective: float
    """Independent samples that these are worth: what a percentile's interval is told from."""
    mean: Measured | None
    quantiles: Mapping[float, Measured]
    """Without those that have too few samples: a quantile q is told from 1 / (1 - q) values or more."""


def distribution(parts: Mapping[int, Blocked], quantiles: Sequence[float], rng: np.random.Generator) -> Distribution:
    """`parts` by repeat. Values pooled; the doubt from blocks resampled within each repeat."""
    filled = {repeat: part for repeat, part in parts.items() if len(part.values)}
    n = sum(part.n for part in filled.values())
    effective = sum(part.effective for part in filled.values())
    told = [q for q in quantiles if n >= enough_for(q)]
    if n == 0:
        return Distribution(n=0, effective=0.0, mean=None, quantiles={})
    each = {repeat: ordered([part.values], [part.weight]) for repeat, part in filled.items()}
    pooled = ordered([part.values for part in filled.values()], [part.weight for part in filled.values()])
    mean = sum(part.mean * part.n for part in filled.values()) / n
    resampled = _resample(list(filled.values()), pooled, told, rng)

    def number(value: float, original: float, draws: FloatArray, by_repeat: dict[int, float]) -> Measured:
        within = _around(value, original, draws, resampled.widening)
        return measured(value=value, by_repeat=by_repeat, within=within, n=n, rng=rng)

    mean_by_repeat = {repeat: part.mean for repeat, part in filled.items()}
    return Distribution(
        n=n,
        effective=effective,
        mean=number(mean, mean, resampled.means, mean_by_repeat),
        quantiles={
            q: replace(
                number(
                    pooled.quantile(q),
                    resampled.quantile_original[q],
                    resampled.quantile_draws[q],
                    {repeat: own.quantile(q) for repeat, own in each.items()},
                ),
                bounded=effective >= enough_to_bound(q),
            )
            for q in told
        },
    )


def enough_for(quantile: float) -> int:
    """Samples that a percentile needs: one is then expected beyond it. 100 for p99."""
    return max(2, round(1 / (1 - quantile)))


def enough_to_bound(quantile: float) -> int:
    """Independent samples that a percentile's interval needs: five are then expected beyond it. 500 for p99.

    With 370 the coverage of a nominal 95 % interval of a lognormal's p99 was 83 %, with 100 it was 62 %; with 1000 of
    an autocorrelation of 0.9, which are worth 53, it was 82 %.
    """
    return round(BEYOND_MIN / (1 - quantile))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resampled:
    means: FloatArray
    quantile_draws: Mapping[float, FloatArray]
    quantile_original: Mapping[float, float]
    widening: float


def _resample(
    parts: list[Blocked],
    pooled: Ordered,
    quantiles: Sequence[float],
    rng: np.random.Generator,
) -> _Resampled:
    """Resamples blocks as counts over value bins: a matrix product instead of sorting every resample."""
    edges = _bin_edges(pooled)
    weights, counts, sums = [], [], []
    for part in parts:
        bins = np.searchsorted(edges, part.values, side="left")
        cells = part.block.astype(np.int64) * len(edges) + bins
        flat = np.bincount(cells, weights=part.weight, minlength=part.blocks * len(edges))
        counts.append(flat.reshape(part.blocks, len(edges)).astype(np.float64))
        total = part.values if part.weight is None else part.values * part.weight
        sums.append(np.bincount(part.block, weights=total, minlength=part.blocks))
        # The first row, all ones, is the original sample.
        drawn = rng.multinomial(part.blocks, np.full(part.blocks, 1 / part.blocks), size=DRAWS)
        weights.append(np.vstack([np.ones((1, part.blocks)), drawn]))
    cumulative = np.cumsum(np.hstack(weights) @ np.vstack(counts), axis=1)
    totals = cumulative[:, -1]
    found = {q: edges[(cumulative >= (q * totals)[:, None]).argmax(axis=1)] for q in quantiles}
    return _Resampled(
        means=(np.hstack(weights) @ np.concatenate(sums) / totals)[1:],
        quantile_draws={q: values[1:] for q, values in found.items()},
        quantile_original={q: float(values[0]) for q, values in found.items()},
        widening=_widening(sum(part.blocks for part in parts), sum(part.degrees for part in parts)),
    )


def _bin_edges(pooled: Ordered) -> FloatArray:
    """Upper edges of the bins: every distinct value where those are few, else quantiles, dense in the upper tail."""
    distinct = pooled.distinct()
    if len(distinct) <= BINS_MAX:
        return distinct
    tail = 1 - np.geomspace(0.1, 1e-4, BINS_MAX // 4)
    body = np.linspace(0, 1, BINS_MAX - len(tail))
    return np.unique(pooled.ranked(np.ceil((pooled.n - 1) * np.union1d(body, tail)).astype(np.int64)))


def _widening(blocks: int, degrees: float) -> float:
    """Resampling blocks understates the variance by degrees / blocks (blocks know nothing of what they share with their
    neighbours, nor how few they are), and its tails are normal ones."""
    inflation = blocks / max(DEGREES_MIN, degrees)
    return t_quantile(0.5 + CONFIDENCE / 2, max(2.0, degrees)) / Z * math.sqrt(inflation)


def _around(value: float, original: float, draws: FloatArray, widening: float) -> FloatArray:
    """Draws moved to the exact value and widened; by ratio where all are positive, so that none falls below zero."""
    if value > 0 and original > 0 and (draws > 0).all():
        return np.asarray(value * np.exp(np.clip(widening * np.log(draws / original), -50, 50)), dtype=np.float64)
    return _not_negative(value + widening * (draws - original))


def _not_negative(draws: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(0.0, draws), dtype=np.float64)


def _width(draws: FloatArray) -> float:
    low, high = interval(draws)
    return high - low


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """other / first, with draws of its logarithm."""

    value: float
    log_draws: FloatArray
    n: int
    """Repeats that were paired; 0 where the two sides share none."""

    def estimate(self) -> Estimate:
        low, high = (math.exp(end) for end in interval(self.log_draws))
        return Estimate(value=self.value, low=min(low, self.value), high=max(high, self.value), n=self.n)


def ratio(other: Measured, first: Measured, rng: np.random.Generator) -> Ratio | None:
    """Paired by repeat where both have it; None unless both sides are positive and have an interval."""
    if min(other.value, first.value) <= 0 or not (other.bounded and first.bounded):
        return None
    value = other.value / first.value
    within = _log_deviations(other) - _log_deviations(first)
    pairs = [repeat for repeat in other.by_repeat if repeat in first.by_repeat]
    paired = [
        other.by_repeat[r] / first.by_repeat[r] for r in pairs if first.by_repeat[r] > 0 and other.by_repeat[r] > 0
    ]
    log_value = math.log(value)
    log_draws = log_value + within
    between = between_draws(value, paired, rng)
    if between is not None and _width(np.log(between)) > _width(log_draws):
        log_draws = np.log(between)
    return Ratio(value=value, log_draws=log_draws, n=len(pairs))


def _log_deviations(number: Measured) -> FloatArray:
    # A draw at zero stands for "near nothing": it belongs into the tail, but has no logarithm.
    return np.asarray(np.log(np.maximum(number.within / number.value, SMALLEST_SHARE)), dtype=np.float64)


def proportion(count: int, total: int) -> Estimate:
    """A share of independent events with Wilson's interval; nothing for a total of 0.

    Source: Wilson (1927); unlike the normal approximation it stays inside [0, 1] and has a width at 0 and 1.
    """
    if total == 0:
        return Estimate.nothing()
    share = count / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    return Estimate(
        value=share, low=max(0.0, min(centre - half, share)), high=min(1.0, max(centre + half, share)), n=total
    )
