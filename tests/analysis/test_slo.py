import numpy as np
import pytest

from loadstair.analysis.statistics.bootstrap import blocked
from loadstair.analysis.step.slo import limit_results, request_limits, slo_met, within_limits
from loadstair.plan.model import Slo
from tests.analysis.test_latency import of, request


def met(slo: Slo, ttft_ms: np.ndarray) -> bool | None:
    told = [blocked(ttft_ms, np.arange(len(ttft_ms)), ttft_ms)]
    values = {"ttft": told, "itl": [], "tpot": [], "e2e": told}
    return slo_met(limit_results(slo, values, 0.0))


@pytest.mark.parametrize(
    ("n", "beyond", "expected"),
    [
        (100, 1, True),  # 1 in 100 may lie beyond a p99
        (100, 2, False),
        (99, 0, None),  # a p99 is told from 100
        (99, 1, None),
        (99, 2, False),  # had the hundredth been within, 2 in 100 would still lie beyond
        (0, 0, None),
    ],
)
def test_a_percentile_limit_is_met_violated_or_not_known(n: int, beyond: int, expected: bool | None) -> None:
    values = np.where(np.arange(n) < beyond, 300.0, 100.0)
    assert met(Slo(ttft_ms_p99=200), values) is expected


def test_a_known_violation_outweighs_an_unknown_limit_and_an_unknown_one_outweighs_all_met() -> None:
    fifty = np.full(50, 100.0)
    assert met(Slo(ttft_ms_p50=90, ttft_ms_p99=200), fifty) is False
    assert met(Slo(ttft_ms_p50=110, ttft_ms_p99=200), fifty) is None
    assert met(Slo(ttft_ms_p50=110, ttft_ms_p90=200), fifty) is True


def test_a_limit_on_the_longest_needs_no_number_of_samples() -> None:
    assert met(Slo(e2e_s_max=0.2), np.full(3, 100.0)) is True
    assert met(Slo(e2e_s_max=0.2), np.array([100.0, 201.0])) is False


def test_an_itl_limit_holds_each_request_to_its_own_mean_gap() -> None:
    # Mean gaps: (50 - 10) / 2 = 20 ms although one gap has 35; (90 - 10) / 2 = 40 ms
    samples = of(request(0, [10, 15, 50]), request(0, [10, 50, 90]))
    assert within_limits(samples.requests, request_limits(Slo(itl_ms_p99=30))).tolist() == [True, False]


def test_a_tpot_limit_stands_before_that_of_the_itl() -> None:
    assert request_limits(Slo(itl_ms_p99=30, tpot_ms_p90=50)).tpot_ms == 50
    assert request_limits(Slo(itl_ms_p50=20, itl_ms_p99=30)).tpot_ms == 30  # the highest percentile's
