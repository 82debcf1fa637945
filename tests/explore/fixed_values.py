"""A board whose numbers are known."""

from collections.abc import Iterator

from loadstair.explore.numbers import Limits, Numbers, Spread, Tick

NOTHING = Spread(n=0, mean=None, p50=None, p90=None, p99=None, max=None)
TTFT = Spread(n=10, mean=51.25, p50=50.0, p90=61.5, p99=1234.4, max=1250.0)
NUMBERS = Numbers(
    span_s=10.0, ok=10, failed=2, ttft_ms=TTFT, itl_ms=NOTHING, tpot_ms=NOTHING, e2e_ms=NOTHING,
    output_tokens_per_s=1520.0, requests_per_s=1.0, goodput_rps=None,
)  # fmt: skip
RECORDS = [
    "request_id,outcome,offset_ms,error\n",
    "r1,ok,-3.5,\nr2,http_error,2.0,plain words\n",
    "r3,ok,1.0,\n",
]


NOTICE = "something to know of this test"


class FixedBoard:
    limits = Limits(ttft_ms=200.0, tpot_ms=None, e2e_ms=None)
    test_started_s = 1_000.0
    test_running = True
    refusal = None

    def __init__(self, ticks: int = 5) -> None:
        self._ticks = ticks

    def total(self) -> Numbers:
        return NUMBERS

    def recent(self) -> Numbers:
        return NUMBERS

    def ticks(self, after_s: float) -> list[Tick]:
        seconds = range(1, self._ticks + 1)
        ticks = [Tick(time_s=1_000.0 + second, users=3, in_flight=2, numbers=NUMBERS) for second in seconds]
        return [tick for tick in ticks if tick.time_s > after_s]

    def records_csv(self) -> Iterator[str]:
        yield from RECORDS
