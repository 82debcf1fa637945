"""How punctually an open loop's requests were sent. Pure."""

from dataclasses import dataclass

import numpy as np

from loadstair.analysis.step.latency import difference_ms
from loadstair.samples.frame import Samples

QUANTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchLag:
    """From when a request was due to its dispatch, of all requests that were due in a hold."""

    requests: int
    p99_ms: float
    own_p99_ms: float | None
    """Without those that the in-flight limit held back: the generator's own. None where it held back all."""


def dispatch_lag(hold: Samples, held_back: int) -> DispatchLag | None:
    """`held_back`: how many the limit made wait; taken to be those that waited longest. None in a closed loop."""
    lag_ms = np.sort(difference_ms(hold.requests, "dispatch_ns", "due_ns"))
    lag_ms = lag_ms[~np.isnan(lag_ms)]
    if not len(lag_ms):
        return None
    own_ms = lag_ms[: max(0, len(lag_ms) - held_back)]
    return DispatchLag(
        requests=len(lag_ms),
        p99_ms=float(np.quantile(lag_ms, QUANTILE)),
        own_p99_ms=float(np.quantile(own_ms, QUANTILE)) if len(own_ms) else None,
    )
