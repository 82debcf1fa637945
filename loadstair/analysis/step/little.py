"""Little's law over a hold: requests under way = requests per second × seconds that each stays. Pure.

From one set of records, with both ends of the window accounted for, the law is an identity and says nothing. So each
side comes from somewhere else: the requests under way from the time average over all requests of the visit, whatever
their tag; the rate from what ended inside the window; the residence from the requests *dispatched* inside it, followed
to their last token: the population and the stamps that latency is told from. In a steady state they agree; they do not
where times are wrong, or where the requests dispatched in the hold fared otherwise than those under way in it.

What records alone cannot show, since lost ones are missing on both sides, the plan and the engines do: the users that
should be under way (`expected_in_flight`) and what the engines say they hold (`server_in_flight_max`).
"""

import math
from dataclasses import dataclass

import numpy as np

from loadstair.analysis.statistics.bootstrap import batch_means
from loadstair.analysis.step.latency import FloatArray, int_column
from loadstair.analysis.step.throughput import Window, in_flight_mean, sliced_rate
from loadstair.samples.frame import Samples
from loadstair.samples.record import Outcome
from loadstair.units import NS_PER_S

REQUESTS_MIN = 30
"""In the window, both dispatched and ended: fewer tell no standard error."""
TOLERANCE = 0.05
ERRORS_MAX = 4.0
"""Standard errors. They are told from batches of one window: three would trip once in some hundred sound steps."""
USER_GAP_S = 0.005
"""What a user may take from the end of a request to the next one's dispatch; 1 ms is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Requests of one hold."""

    in_flight: float
    """Time average of the requests under way, from dispatch to end."""
    ended_per_s: float
    """Whatever their outcome."""
    residence_s: float | None
    """Mean of the requests dispatched in the hold, from dispatch to the last token, or to the end where none came; None
    without one. The killed ones, whose end nobody knows, are left out."""
    error: float | None
    """Standard error of `ended_per_s × residence_s`; None with too few requests."""

    @property
    def expected(self) -> float | None:
        """What Little's law makes of the last two."""
        return None if self.residence_s is None else self.ended_per_s * self.residence_s


def flow(samples: Samples, hold: Samples, window: Window) -> Flow:
    """`samples` of the whole visit; `hold`: those of them that the step dispatched in its hold."""
    ended = sliced_rate(np.sort(int_column(samples.requests, "end_ns")), None, window)
    residence_s = _residence_s(hold)
    enough = min(ended.n, len(residence_s)) >= REQUESTS_MIN
    mean_s = float(residence_s.mean()) if len(residence_s) else None
    return Flow(
        in_flight=in_flight_mean(samples, window),
        ended_per_s=ended.mean,
        residence_s=mean_s,
        error=_error(ended.per_slice, residence_s) if enough else None,
    )


def _residence_s(hold: Samples) -> FloatArray:
    """In the order of dispatch."""
    requests = hold.requests
    until = requests["last_token_ns"].fillna(requests["end_ns"]).to_numpy(dtype=np.int64)
    dispatched = int_column(requests, "dispatch_ns")
    known = (requests["outcome"] != Outcome.KILLED).to_numpy(dtype=bool)
    order = np.argsort(dispatched, kind="stable")
    return np.asarray(((until - dispatched) / NS_PER_S)[order][known[order]], dtype=np.float64)


def _error(ended_per_s: FloatArray, residence_s: FloatArray) -> float:
    rate, stay = batch_means(ended_per_s), batch_means(residence_s)
    return math.hypot(rate.error * stay.mean, rate.mean * stay.error)


def violation(seen: Flow, window: Window) -> float | None:
    """By how much the two sides differ, as a share of the requests under way; None where that is within their error, or
    cannot be told: few requests, or a window shorter than two of them, most of which straddle its ends."""
    expected = seen.expected
    if expected is None or seen.error is None or seen.residence_s is None or seen.in_flight <= 0:
        return None
    if window.duration_s < 2 * seen.residence_s:
        return None
    apart = expected - seen.in_flight
    if abs(apart) <= max(TOLERANCE * seen.in_flight, ERRORS_MAX * seen.error):
        return None
    return apart / seen.in_flight


def expected_in_flight(users: float, residence_s: float) -> float:
    """The least that a closed loop of so many users, who never pause, has under way on average."""
    return (1 - TOLERANCE) * users * residence_s / (residence_s + USER_GAP_S)


def server_in_flight_max(in_flight: float) -> float:
    """What the engines may say they hold, on average, when the clients have so many under way.

    The gauges are read once a second: a request more, a tenth, and the scatter of counts.
    """
    return 1 + 1.1 * in_flight + 0.75 * math.sqrt(in_flight)
