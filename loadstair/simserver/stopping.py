"""Where a simulated answer ends by itself: drawn from (seed, request number) alone, so that a run can be repeated."""

import math
import random

STOP_MEAN_TOKENS = 256
"""Mean of the geometric distribution that natural ends are drawn from."""


def draw_stop_after(*, seed: int, number: int, min_tokens: int) -> int:
    """The output token at which request `number` stops: geometric, not before `min_tokens`."""
    rng = random.Random(seed << 40 | number)
    drawn = math.ceil(math.log(1.0 - rng.random()) / math.log1p(-1.0 / STOP_MEAN_TOKENS))
    return max(1, min_tokens, drawn)
