"""Whether a hold has shown enough to know its throughput as well as the plan wants. Pure; asked while it goes on."""

from collections.abc import Sequence

import numpy as np

from loadstair.analysis.bootstrap import batch_means
from loadstair.analysis.latency import FloatArray
from loadstair.samples.look import Look

BATCHES_MIN = 16
"""Below that the batches' spread is known too badly: ending when it happens to be small would keep few promises."""


def precise_enough(tokens_per_s: FloatArray, precision: float) -> bool:
    """Whether half of the mean's 95 % interval is at most this share of it. `tokens_per_s`: over equally long slices
    from the start of the hold; False with fewer than BATCHES_MIN."""
    if len(tokens_per_s) < BATCHES_MIN:
        return False
    found = batch_means(tokens_per_s)
    return found.mean > 0 and found.half_width <= precision * found.mean


def rates(looks: Sequence[Look]) -> FloatArray:
    """Tokens per second over as many equal slices as there are intervals between looks; none with fewer than two."""
    if len(looks) < 2:
        return np.zeros(0)
    time_s = np.array([look.time_s for look in looks])
    tokens = np.array([look.tokens for look in looks], dtype=np.float64)
    even_s = np.linspace(time_s[0], time_s[-1], len(looks))
    return np.asarray(np.diff(np.interp(even_s, time_s, tokens)) / (even_s[1] - even_s[0]), dtype=np.float64)
