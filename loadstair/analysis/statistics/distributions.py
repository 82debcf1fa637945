"""Quantiles and tails of the distributions that the intervals and tests need.

From scipy.special: scipy.stats offers the same, and takes two seconds of every command to import.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]


def normal_quantile(level: float) -> float:
    return float(special.ndtri(level))


def t_quantile(level: float, degrees: float) -> float:
    """Student's t; `degrees` of freedom, above 0."""
    return float(special.stdtrit(degrees, level))


def t_quantiles(levels: FloatArray, degrees: float) -> FloatArray:
    return np.asarray(special.stdtrit(degrees, levels), dtype=np.float64)


def t_two_sided(t: float, degrees: float) -> float:
    """The probability of a value at least as far from 0, either way."""
    return float(2 * special.stdtr(degrees, -abs(t)))


def binomial_exceeded(chance: float, tries: npt.ArrayLike, share: float) -> FloatArray:
    """Shape of `tries`: the fewest hits that are exceeded with this chance at most, each try hitting with `share`."""
    n = np.asarray(tries, dtype=np.int64)
    at_most = 1 - chance
    hits = np.ceil(special.bdtrik(at_most, n, share))
    one_less = np.maximum(hits - 1, 0)
    return np.asarray(np.where(special.bdtr(one_less, n, share) >= at_most, one_less, hits), dtype=np.float64)
