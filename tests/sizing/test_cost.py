"""Money: by the hour, the token, the request, and against an API."""

import pytest

from loadstair.sizing.case import Case
from loadstair.sizing.cost import ApiPrice, UsdRange, cost, given_price, listed_price
from loadstair.sizing.speed import Expected, Speed
from tests.sizing.staircase import QWEN, known_gpu

CASE = Case(model=QWEN, concurrent=64, context_tokens=1024, input_tokens=512, output_tokens=256)


def served(requests_per_s):
    nothing = Expected(0, 0, 0)
    return Speed(
        output_tokens_per_s=Expected(requests_per_s * 256, 0, 0),
        requests_per_s=requests_per_s,
        ttft_s_mean=nothing,
        ttft_s_p99=nothing,
        itl_s_mean=nothing,
        itl_s_p99=nothing,
        peak_share=0,
    )


def test_the_reference_costs_of_tp4_come_out():
    # Four H100 at 2.50 $/h, 4606 tokens/s at 64 users: 0.60 $ per 1M output tokens, 146 per 1M requests of 256 (the
    # reference's answers are a little shorter).
    found = cost(CASE, served(4606 / 256), 4, given_price(2.5), 0.5, None)
    assert found.usd_per_hour == UsdRange(10, 10)
    assert found.full_use.usd_per_million_output_tokens.low == pytest.approx(0.603, abs=0.001)
    assert found.full_use.usd_per_million_requests.low == pytest.approx(0.603 * 256, rel=0.001)
    assert found.full_use.usd_per_million_tokens.low == pytest.approx(0.201, abs=0.001)  # a third are output
    assert found.part_use.usd_per_million_output_tokens.low == pytest.approx(1.206, abs=0.002)


def test_a_listed_price_is_a_range_with_its_date_and_source():
    price = listed_price(known_gpu("h100-sxm"))
    assert price.usd_per_hour == UsdRange(1.3, 5.0)
    assert price.source.startswith("2026-05: SemiAnalysis")


@pytest.mark.parametrize(
    ("requests_per_s", "reached"),
    [
        (10, True),  # 864,000 a day
        (2, None),  # 172,800 a day
        (0.5, False),  # 43,200 a day
    ],
)
def test_from_so_many_requests_a_day_own_gpus_are_cheaper_than_an_api(requests_per_s, reached):
    api = ApiPrice(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)
    price = listed_price(known_gpu("h100-sxm"))  # 1.30 to 5.00 $/h
    even = cost(CASE, served(requests_per_s), 1, price, 0.5, api).break_even
    assert even is not None
    assert even.api_usd_per_million_requests == pytest.approx(256)  # 512 x 0.2 + 256 x 0.6
    assert even.requests_per_day.low == pytest.approx(121_875)  # 1.30 x 24 / 256e-6
    assert even.requests_per_day.high == pytest.approx(468_750)
    assert even.reached is reached
