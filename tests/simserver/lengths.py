"""Lengths of requests, as the reference's staircases have them."""

import math
import random

from loadstair.simserver.closedloop import Lengths

INPUT_CV = 0.15
OUTPUT_CV = 0.3


def lognormal_lengths(input_tokens: float, output_tokens: float, *, seed: int) -> Lengths:
    rng = random.Random(seed)
    return lambda _: (_lognormal(rng, input_tokens, INPUT_CV), _lognormal(rng, output_tokens, OUTPUT_CV))


def _lognormal(rng: random.Random, mean: float, cv: float) -> int:
    sigma = math.sqrt(math.log1p(cv**2))
    return max(1, round(rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)))
