"""How often a staircase's knee holds the truth, on synthetic throughputs that follow one of the laws, or nearly.

    python bench/laws.py [--trials 150] [--seed 1]

Eight loads, measured with noise of which the measurement knows. The truth is where throughput gains less than 1.3 per
doubling. Told are the law that followed best, how many trials had no knee, how many of the others held the truth, and
the median of their intervals' high over low.
"""

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from loadstair.analysis.staircase.curve import LOG2_KNEE_GAIN, Curve
from loadstair.analysis.staircase.knee import fit_laws
from loadstair.analysis.statistics.bootstrap import DRAWS

FloatArray = npt.NDArray[np.float64]
Tokens = Callable[[FloatArray], FloatArray]

LOADS = np.array([2, 4, 8, 16, 32, 64, 128, 192], dtype=np.float64)
FINE = np.geomspace(LOADS[0], LOADS[-1], 100_000)
NOISES = (0.003, 0.01, 0.02)


def usl(contention: float, coherency: float) -> Tokens:
    return lambda n: n / (1 + contention * (n - 1) + coherency * n * (n - 1))


def bend(knee: float, above: float) -> Tokens:
    return lambda n: np.minimum(n, knee) ** 0.95 * np.maximum(1.0, n / knee) ** above


def full_batch(full: float, ratio: float) -> Tokens:
    return lambda n: np.minimum(n, full) / (1 + ratio * np.minimum(n, full))


TRUTHS: dict[str, Tokens] = {
    "USL, σ 0.02, κ 0.0002": usl(0.02, 0.0002),
    "USL, σ 0.05, κ 0.0001": usl(0.05, 0.0001),
    "USL, σ 0.03, κ 0": usl(0.03, 0.0),
    "bend at 16": bend(16, 0.1),
    "bend at 24": bend(24, 0.05),
    "bend at 40, then falling": bend(40, -0.2),
    "full batch of 24": full_batch(24, 0.002),
    "full batch of 48": full_batch(48, 0.016),
    "full batch of 100": full_batch(100, 0.02),
    "a line": lambda n: n,
}


def true_knee(tokens: Tokens) -> float | None:
    slopes = np.diff(np.log(tokens(FINE))) / np.diff(np.log(FINE))
    return float(FINE[int(np.argmax(slopes < LOG2_KNEE_GAIN))]) if (slopes < LOG2_KNEE_GAIN).any() else None


def measured(tokens: Tokens, noise: float, rng: np.random.Generator) -> Curve:
    return Curve(
        loads=LOADS,
        log_tokens=np.log(tokens(LOADS)) + rng.normal(0, noise, len(LOADS)),
        deviations=rng.normal(0, noise, (DRAWS, len(LOADS))),
        shared=np.zeros(DRAWS),
        spread=np.full(len(LOADS), noise),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'truth':>25}  {'knee':>6}  {'noise':>5}  {'none':>5}  {'held':>6}  {'width':>5}  best law", flush=True)
    for name, tokens in TRUTHS.items():
        truth = true_knee(tokens)
        for noise in NOISES:
            best: Counter[str] = Counter()
            held, widths = 0, []
            for _ in range(options.trials):
                fits = fit_laws(measured(tokens, noise, rng))
                best[str(fits.best())] += 1
                knee = fits.knee()
                if knee.low is not None and knee.high is not None:
                    held += truth is not None and knee.low <= truth <= knee.high
                    widths.append(knee.high / knee.low)
            none = 1 - len(widths) / options.trials
            share = f"{held / len(widths):.1%}" if widths else "–"
            width = f"{np.median(widths):.2f}" if widths else "–"
            laws = ", ".join(f"{law} {count / options.trials:.0%}" for law, count in best.most_common())
            where = "none" if truth is None else f"{truth:.1f}"
            print(f"{name:>25}  {where:>6}  {noise:>5.1%}  {none:>5.1%}  {share:>6}  {width:>5}  {laws}", flush=True)


if __name__ == "__main__":
    main()
