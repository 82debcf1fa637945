from dataclasses import replace

import numpy as np
import pytest

from loadstair.analysis.step import latency
from loadstair.samples.frame import Samples, samples_from_tables
from loadstair.samples.record import Outcome, Phase, RequestSample
from loadstair.units import NS_PER_MS
from tests.analysis.synthetic import EPOCH_NS, TP4, plan_of, simulate, table_of

ROW = simulate({"tp4": TP4}, plan_of({"tp4": TP4}, load={"steps": [1], "hold_s": 2})).rows[0]


def request(sent_ms: float, arrivals_ms: list[float], **changes: object) -> RequestSample:
    arrivals = [EPOCH_NS + round(at * NS_PER_MS) for at in arrivals_ms]
    sent = EPOCH_NS + round(sent_ms * NS_PER_MS)
    row = replace(
        ROW,
        phase=Phase.HOLD,
        dispatch_ns=sent,
        sent_ns=sent,
        arrivals=arrivals,
        first_token_ns=arrivals[0] if arrivals else None,
        last_token_ns=arrivals[-1] if arrivals else None,
        end_ns=arrivals[-1] if arrivals else sent,
        output_tokens=len(arrivals),
    )
    return replace(row, **changes)


def of(*rows: RequestSample) -> Samples:
    return samples_from_tables([table_of(rows)])


def test_ttft_is_from_sending_to_the_first_token() -> None:
    assert latency.ttft_ms(of(request(10, [60, 80])).requests).tolist() == [50]  # 60 - 10


def test_ttft_from_the_due_time_counts_the_wait_before_sending() -> None:
    row = request(10, [60], due_ns=EPOCH_NS)
    assert latency.ttft_due_ms(of(row).requests).tolist() == [60]  # 60 - 0


def test_tpot_divides_by_the_tokens_after_the_first() -> None:
    assert latency.tpot_ms(of(request(0, [80, 90, 120])).requests).tolist() == [20]  # (120 - 80) / (3 - 1)


def test_tpot_counts_tokens_not_chunks() -> None:
    row = request(0, [80, 120], output_tokens=5)
    assert latency.tpot_ms(of(row).requests).tolist() == [10]  # (120 - 80) / (5 - 1)


@pytest.mark.parametrize("tokens", [1, None])
def test_tpot_is_absent_below_two_tokens_and_without_a_count(tokens: int | None) -> None:
    assert np.isnan(latency.tpot_ms(of(request(0, [80], output_tokens=tokens)).requests)).all()


def test_itl_has_every_gap_within_a_request_and_none_between_two() -> None:
    gaps = latency.itl_gaps(of(request(0, [10, 12, 17]), request(0, [100]), request(0, [200, 203])))
    assert (gaps.gap_ns / NS_PER_MS).tolist() == [2, 5, 3]  # 12 - 10, 17 - 12, 203 - 200
    assert gaps.request.tolist() == [0, 0, 2]


def test_only_successful_requests_of_the_hold_are_timed_in_the_order_of_dispatch() -> None:
    samples = of(
        request(30, [60]),
        request(10, [60], phase=Phase.WARMUP),
        request(20, [60], outcome=Outcome.TIMEOUT),
        request(15, [60]),
        request(40, [60], phase=Phase.TAIL),
    )
    assert latency.latency_rows(samples).tolist() == [3, 0]


def test_a_stall_is_longer_than_200_ms_and_five_median_gaps() -> None:
    brisk = request(0, [0, 10, 20, 230, 240])  # gaps 10 10 210 10: 210 > max(5 × 10, 200)
    short = request(0, [0, 10, 20, 210, 220])  # 190 < 200
    slow = request(0, [0, 100, 200, 600, 700])  # 400 < 5 × 100
    found = latency.stalls(of(brisk, short, slow))
    assert (found.count, found.requests, found.longest_ns) == (1, 1, 210 * NS_PER_MS)


def test_without_stalls_the_longest_is_absent() -> None:
    found = latency.stalls(of(request(0, [0, 10, 20])))
    assert (found.count, found.longest_ns) == (0, None)
