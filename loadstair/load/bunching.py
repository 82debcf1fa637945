"""Tokens that share an arrival: who merged them, the server or our own late read?

A read merges arrivals when it comes later than the second of them. The kernel keeps only the newest stamp, so how long
the first one had waited is unknown; but it cannot have waited longer than the loop had been blind before the read.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from loadstair.load.exchange import Exchange
from loadstair.units import NS_PER_US

LATE_READ_US_MIN: Final = 500
LATE_READ_GAP_SHARE: Final = 0.1


class Bunching(NamedTuple):
    bunched: int
    """Token chunks that share an arrival with an earlier one."""
    late: int
    """Those of `bunched` that came in a late read: our read can have merged them. The server can have, too."""
    late_reads: int
    """Of the reads that brought tokens, those that were late."""


def bunching(exchange: Exchange, arrival_indexes: Sequence[int]) -> Bunching:
    """`arrival_indexes`: for each token chunk, the arrival that completed it; ascending.

    A read is late if an arrival can have waited for it for more than a tenth of the median gap, and 0.5 ms at least.
    Also late is one that lags so far behind the newest stamp in it: the process itself had been kept waiting.
    """
    reads = dict.fromkeys(arrival_indexes)
    bunched = len(arrival_indexes) - len(reads)
    waited_us = exchange.waited_us
    if max(waited_us, default=0) <= LATE_READ_US_MIN:
        return Bunching(bunched, 0, 0)
    limit_us = max(LATE_READ_US_MIN, LATE_READ_GAP_SHARE * _usual_gap_ns(exchange, reads) / NS_PER_US)
    late = {index for index in reads if waited_us[index] > limit_us}
    if not late:
        return Bunching(bunched, 0, 0)
    return Bunching(bunched, sum(index in late for index in arrival_indexes) - len(late), len(late))


def _usual_gap_ns(exchange: Exchange, reads: Iterable[int]) -> int:
    """The median one, 0 where there is none."""
    stamps = exchange.stamps_ns
    gaps = sorted(after - before for before, after in pairwise([stamps[index] for index in reads]))
    return gaps[len(gaps) // 2] if gaps else 0
