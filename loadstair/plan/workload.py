"""What one request asks for. Drawn from (seed, repeat, step, index) alone.

So both arms of a comparison see the same sequence of requests in the same step of the same repeat, whichever worker
sends them, and no process-wide random state is involved.
"""

import math
import random
from dataclasses import dataclass

from loadstair.plan.model import Lengths, Workload

TOKENS_MAX = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    input_tokens: int
    """Including `prefix_tokens`."""
    output_tokens: int
    prefix_tokens: int
    """Leading tokens shared with every other request that has them; 0 for none."""
    text_seed: int


def request_spec(workload: Workload, *, seed: int, repeat: int, step: int, index: int) -> RequestSpec:
    # An int seed, because `random.Random` hashes strings only through SHA-512 (slower) and tuples not at all.
    rng = random.Random((((seed << 16) | repeat & 0xFFFF) << 16 | step & 0xFFFF) << 40 | index & 0xFFFFFFFFFF)
    prefix_tokens = workload.prefix.tokens if rng.random() < workload.prefix.share else 0
    return RequestSpec(
        input_tokens=max(draw_length(workload.input_tokens, rng), prefix_tokens + 1),
        output_tokens=draw_length(workload.output_tokens, rng),
        prefix_tokens=prefix_tokens,
        text_seed=rng.getrandbits(32),
    )


def draw_length(lengths: Lengths, rng: random.Random) -> int:
    """One length in tokens: lognormal with the wanted mean and cv before clipping to [min, max]."""
    if lengths.cv == 0:
        drawn = lengths.mean
    else:
        sigma_squared = math.log1p(lengths.cv**2)
        drawn = rng.lognormvariate(math.log(lengths.mean) - sigma_squared / 2, math.sqrt(sigma_squared))
    return int(min(max(round(drawn), lengths.min), lengths.max or TOKENS_MAX))
