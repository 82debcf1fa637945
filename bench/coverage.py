"""How often a nominal 95 % interval holds the truth, on synthetic series whose truth is known.

    python bench/coverage.py [--trials 1000] [--seed 1]

Series are autoregressive of first order. A percentile counts only where it was given an interval; the share of the
trials that gave one stands behind it.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import signal, special

from loadstair.analysis.statistics.bootstrap import Measured, blocked, distribution, rate_measured
from loadstair.analysis.step.throughput import SLICES, SlicedRate

FloatArray = npt.NDArray[np.float64]

CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
REQUESTS = (300, 1000, 3000)
QUANTILES = (0.5, 0.9, 0.99)
RATE = 1000.0
SIGMA = 0.5
"""Of the logarithm of a latency."""
MEDIAN_MS = 50.0


def autoregressive(rng: np.random.Generator, count: int, correlation: float) -> FloatArray:
    """Mean 0, standard deviation 1."""
    noise = rng.normal(0, math.sqrt(1 - correlation**2), count)
    noise[0] = rng.normal()
    return np.asarray(signal.lfilter([1], [1, -correlation], noise), dtype=np.float64)


def rates(rng: np.random.Generator, correlation: float) -> Iterator[tuple[str, Measured, float]]:
    per_slice = RATE * (1 + 0.06 * autoregressive(rng, SLICES, correlation))
    yield "rate", rate_measured({0: SlicedRate(per_slice=per_slice, n=SLICES)}, rng), RATE


def latencies(rng: np.random.Generator, correlation: float, count: int) -> Iterator[tuple[str, Measured, float]]:
    values = MEDIAN_MS * np.exp(SIGMA * autoregressive(rng, count, correlation))
    told = distribution({0: blocked(values, np.arange(count), values)}, QUANTILES, rng)
    assert told.mean is not None
    yield "mean", told.mean, MEDIAN_MS * math.exp(SIGMA**2 / 2)
    for q, number in told.quantiles.items():
        yield f"p{q * 100:g}", number, MEDIAN_MS * math.exp(SIGMA * float(special.ndtri(q)))


class Count:
    def __init__(self) -> None:
        self.trials = self.told = self.held = 0

    def add(self, number: Measured, truth: float) -> None:
        estimate = number.estimate()
        self.trials += 1
        if estimate.low is not None and estimate.high is not None:
            self.told += 1
            self.held += estimate.low <= truth <= estimate.high

    def __str__(self) -> str:
        if self.told < self.trials / 20:
            return "–"
        told = self.told / self.trials
        return f"{self.held / self.told:.1%}" + ("" if told > 0.995 else f" ({told:.0%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)

    print(f"{'series':>22}  {'rate':>12}")
    for correlation in CORRELATIONS:
        count = Count()
        for _ in range(options.trials):
            for _, number, truth in rates(rng, correlation):
                count.add(number, truth)
        print(f"{SLICES:>8} slices at {correlation:<3}  {count!s:>12}")

    names = ("mean", *(f"p{q * 100:g}" for q in QUANTILES))
    print(f"\n{'series':>22}  " + "  ".join(f"{name:>12}" for name in names))
    for requests in REQUESTS:
        for correlation in CORRELATIONS:
            counts = {name: Count() for name in names}
            for _ in range(options.trials):
                for name, number, truth in latencies(rng, correlation, requests):
                    counts[name].add(number, truth)
            row = "  ".join(f"{counts[name]!s:>12}" for name in names)
            print(f"{requests:>6} requests at {correlation:<3}  {row}")


if __name__ == "__main__":
    main()
