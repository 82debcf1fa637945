"""The closed form against two discrete-event models."""

from statistics import fmean

import numpy as np
import pytest

from loadstair.serving.formats import Formats
from loadstair.sizing.case import Case
from loadstair.sizing.speed import BANDS, _poisson_quantile, speed
from tests.serving.reference import published
from tests.sizing.staircase import QWEN, Load, known_gpu, known_model, reference_rows

LLAMA = known_model("meta-llama/Llama-3.3-70B-Instruct")
NVL, SXM = known_gpu("h100-nvl"), known_gpu("h100-sxm")
BELOW_LIMITS = [(load, row) for load, row in reference_rows() if load.below_limits]


def test_109_of_the_reference_rows_are_below_the_limits():
    assert len(BELOW_LIMITS) == 109


def test_throughput_is_within_6_percent_of_every_reference_row_and_1_percent_on_average():
    ratios = [load.closed_form().output_tokens_per_s.value / row["output_tokens_per_s"] for load, row in BELOW_LIMITS]
    assert max(abs(ratio - 1) for ratio in ratios) < 0.065
    assert fmean(abs(ratio - 1) for ratio in ratios) < 0.011


def test_the_mean_gap_is_within_6_percent_of_every_reference_row():
    for load, row in BELOW_LIMITS:
        assert load.closed_form().itl_s_mean.value * 1e3 == pytest.approx(row["tpot_ms_p50"], rel=0.06)


@pytest.mark.parametrize(
    "load",
    [
        Load(SXM, 1, 4, 128, 64, 1),
        Load(NVL, 1, 4, 128, 64, 32),
        Load(NVL, 2, 2, 128, 64, 64),
        Load(SXM, 4, 1, 128, 64, 32),
        Load(NVL, 1, 4, 512, 256, 16),
        Load(SXM, 2, 2, 512, 256, 32),
        Load(NVL, 1, 4, 2048, 512, 4),
        Load(SXM, 1, 4, 16384, 256, 16, 2048),
        Load(SXM, 1, 4, 8192, 64, 8, 2048),
        Load(SXM, 2, 2, 4096, 256, 32, 2048),
    ],
    ids=lambda load: f"{load.gpu.name}-{load.engines}xTP{load.tp}-{load.input_tokens}-{load.users}",
)
def test_the_discrete_event_model_lies_in_the_bands_that_are_told(load):
    told = load.closed_form()
    result = load.simulated(rounds=12)
    inside = [one for one in result.traces if result.window_start_ns <= one.sent_ns < result.window_end_ns]
    ttft_s = np.array([one.token_ns[0] - one.sent_ns for one in inside]) / 1e9
    gaps_s = np.concatenate([np.diff(one.token_ns) for one in inside]) / 1e9
    for seen, band in (
        (result.output_tokens_per_s(), told.output_tokens_per_s),
        (ttft_s.mean(), told.ttft_s_mean),
        (np.percentile(ttft_s, 99), told.ttft_s_p99),
        (gaps_s.mean(), told.itl_s_mean),
        (np.percentile(gaps_s, 99), told.itl_s_p99),
    ):
        assert band.low * 0.97 <= seen <= band.high * 1.03  # of 12 rounds, where the bands come of more


@pytest.mark.parametrize("row", published("nim")["rows"][:4], ids=lambda row: str(row["concurrency"]))
def test_fp8_is_within_13_percent_of_nvidias_own_measurement_below_the_kv_limit(row):
    """Llama-3.3-70B on two H100, TensorRT-LLM: outside what the model was fitted to, and a little faster."""
    lengths = {"input_tokens": 5000, "output_tokens": 500, "context_tokens": 5500}
    formats = Formats(weights="fp8", kv="fp8")
    one = Case(model=LLAMA, concurrent=row["concurrency"], formats=formats, **lengths)
    told = speed(one, SXM, 2, 1)
    assert told.output_tokens_per_s.value == pytest.approx(row["output_tokens_per_s"], rel=0.13)


def test_a_band_holds_its_value():
    assert all(low <= 1 <= high for low, high in BANDS.values())


def case(**changes):
    values = {"model": QWEN, "concurrent": 1, "context_tokens": 32000, "input_tokens": 512, "output_tokens": 256}
    return Case(**{**values, **changes})


def test_one_request_waits_for_nobody():
    alone = speed(case(), SXM, 4, 1)
    assert alone.requests_per_s == pytest.approx(1 / 2.25, rel=0.02)  # 256 tokens at 114 tokens/s
    assert alone.ttft_s_mean.value == alone.ttft_s_p99.value
    assert alone.itl_s_p99.value < alone.itl_s_mean.value * 1.02  # the prompt is 1 of 256 steps: beyond p99


def test_a_prompt_beyond_the_token_budget_travels_in_chunks_that_look_back():
    # 16384 tokens in eight steps of 2048 or in two of 8192: every step reads the weights once more
    small, large = (
        speed(case(input_tokens=16384, max_num_batched_tokens=budget), SXM, 4, 1).ttft_s_mean.value
        for budget in (2048, 8192)
    )
    assert large < small < 1.25 * large


def test_a_smaller_token_budget_shortens_the_longest_gaps():
    small, large = (
        speed(case(concurrent=32, input_tokens=4096, max_num_batched_tokens=budget), SXM, 4, 1).itl_s_p99.value
        for budget in (512, 8192)
    )
    assert small < 0.3 * large


@pytest.mark.parametrize(
    ("mean", "probability", "expected"),
    [
        (0.005, 0.99, 0),  # e^-0.005 = 0.995
        (0.02, 0.99, 1),  # e^-0.02 = 0.98
        (1.0, 0.99, 4),  # 0.9963 up to 4, 0.981 up to 3
        (400.0, 0.99, 447),  # 400 + 2.326 x 20
    ],
)
def test_quantiles_of_how_many_prompts_share_a_step(mean, probability, expected):
    assert _poisson_quantile(mean, probability) == expected


def test_the_first_token_and_the_gaps_make_up_the_request():
    told = speed(case(concurrent=16), SXM, 4, 1)
    request_s = told.ttft_s_mean.value + 255 * told.itl_s_mean.value
    assert request_s == pytest.approx(16 / told.requests_per_s)  # Little's law


def test_the_longest_gaps_of_long_prompts_are_those_that_look_back_the_farthest():
    told = speed(case(concurrent=4, input_tokens=30000, output_tokens=72, max_num_batched_tokens=8192), SXM, 4, 1)
    assert told.itl_s_p99.value > told.itl_s_mean.value


def test_a_single_token_has_a_time_too():
    assert speed(case(output_tokens=1), SXM, 4, 1).itl_s_mean.value > 0
