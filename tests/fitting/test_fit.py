"""What a fit finds of engines whose constants are known, and what it does not pretend to find."""

import random

import pytest

from loadstair.errors import NothingToFit, UsageError
from loadstair.fitting.factors import FACTORS, scaled, used_constants
from loadstair.fitting.figures import Figure, measured_steps
from loadstair.fitting.fit import fit
from loadstair.fitting.verdict import Verdict, factor_words, speed_ratio, verdict, verdict_words
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import ArrivalKind
from loadstair.serving.efficiencies import FITTED
from tests.fitting.truth import LONG, STEPS, by_name, measured_with, telling_plan
from tests.forecast.plans import TP4, known_fleet, plan_of

TP1 = {"name": "tp1", "kind": "simulated", "gpus": {"type": "h100-sxm", "count": 1}, "engines": [{"tp": 1}]}
FP8 = {**TP1, "engines": [{"tp": 1, "flags": {"quantization": "fp8"}}]}


def test_an_engine_with_the_shipped_constants_gets_factors_of_1() -> None:
    plan = telling_plan()
    found = fit(plan, None, measured_with(plan, {}))
    assert [one.value for one in found.factors] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert found.efficiencies.gemm_bandwidth == pytest.approx(FITTED.gemm_bandwidth)
    assert verdict(found) is Verdict.HOLDS


@pytest.mark.parametrize(
    "truth",
    [
        {"bandwidth": 0.8},
        {"fixed_time": 2.0},
        {"all_reduce_time": 2.0},
        {"bandwidth": 0.9, "peak": 0.75, "fixed_time": 1.5},
    ],
)
def test_known_constants_are_found_again(truth: dict[str, float]) -> None:
    plan = telling_plan()
    found = fit(plan, None, measured_with(plan, truth))
    for name, one in by_name(found).items():
        true = truth.get(name, 1.0)
        # Shares of a data sheet decide these steps; the times are small parts of them.
        assert one.value == pytest.approx(true, rel=0.12 if one.factor.are_times else 0.03), name
        assert one.low <= true <= one.high, name
    assert found.error_after < 0.01 < found.error_before
    assert verdict(found) is Verdict.FITTED


def test_with_noise_the_truth_lies_in_the_intervals() -> None:
    plan = telling_plan()
    rng = random.Random(11)
    truth = {"bandwidth": 0.85, "peak": 0.9}
    found = fit(plan, None, measured_with(plan, truth, noise=lambda: rng.lognormvariate(0, 0.03)))
    for name, one in by_name(found).items():
        assert one.low <= truth.get(name, 1.0) <= one.high, name


def test_more_noise_than_the_steps_own_to_makes_the_intervals_wider() -> None:
    plan = telling_plan()
    rng = random.Random(12)
    quiet = fit(plan, None, measured_with(plan, {}))
    loud = fit(plan, None, measured_with(plan, {}, noise=lambda: rng.lognormvariate(0, 0.1)))
    for still, noisy in zip(quiet.factors, loud.factors, strict=True):
        assert noisy.high / noisy.low > still.high / still.low


def test_factors_that_the_data_do_not_tell_are_held_and_named() -> None:
    """Decodes of one or two users read weights and start kernels: no arithmetic, and each step alike."""
    plan = plan_of(TP4, load={"steps": [1, 2]})
    found = fit(plan, None, measured_with(plan, {"bandwidth": 0.8}))
    factors = by_name(found)
    assert {name for name, one in factors.items() if one.held} == {"peak", "fixed_time", "all_reduce_time"}
    assert {one.value for one in found.factors if one.held} == {1.0}
    assert factors["bandwidth"].value == pytest.approx(0.8, rel=0.03)
    told = list(factor_words(found))
    assert [line.split()[0] for line in told] == ["peak", "fixed_time", "all_reduce_time"]
    assert all("held at 1" in line for line in told)


def test_without_tensor_parallelism_there_is_no_factor_for_all_reduces() -> None:
    plan = plan_of(TP1, load={"steps": STEPS}, workload=LONG)
    found = fit(plan, None, measured_with(plan, {"peak": 0.8}))
    assert list(by_name(found)) == ["bandwidth", "peak", "fixed_time"]


def test_an_engine_that_is_slower_all_over_is_found_slower() -> None:
    plan = telling_plan()
    found = fit(plan, None, measured_with(plan, {}, speed=0.8))
    factors = by_name(found)
    assert factors["bandwidth"].value == pytest.approx(0.8, rel=0.05)
    assert factors["peak"].value == pytest.approx(0.8, rel=0.05)
    assert factors["fixed_time"].value == pytest.approx(1.25, rel=0.1)  # 1 / 0.8
    assert speed_ratio(found) == pytest.approx(0.8, rel=0.02)
    assert verdict_words(found).startswith("The engines are slower than the model: 0.8")


def test_the_speed_of_a_simulated_engine_is_what_is_to_be_found() -> None:
    slow = {**TP4, "engines": [{"tp": 4, "flags": {"speed": 0.8}}]}
    plan = plan_of(slow, load={"steps": STEPS}, workload=LONG)
    found = fit(plan, None, measured_with(plan, {}, speed=0.8))
    assert speed_ratio(found) == pytest.approx(0.8, rel=0.02)
    assert any("speed (0.8) is for the fit to find" in note for note in found.notes)


def test_no_share_of_a_data_sheet_passes_1() -> None:
    plan = telling_plan()
    found = fit(plan, None, measured_with(plan, {}, speed=2.0))
    assert by_name(found)["bandwidth"].at_bound
    assert found.efficiencies.decode_attention_bandwidth == pytest.approx(1.0)  # 0.88, times 1 / 0.88 at most
    assert any("as far from 1 as it may be" in line for line in factor_words(found))


def test_an_engine_that_the_model_does_not_describe_is_not_called_fitted() -> None:
    plan = telling_plan()
    rng = random.Random(13)
    found = fit(plan, None, measured_with(plan, {}, noise=lambda: rng.lognormvariate(0, 0.5)))
    assert verdict(found) is Verdict.NOT_FOLLOWED
    assert "do not forecast with this fit" in verdict_words(found)


def test_a_format_that_was_not_run_keeps_its_constants() -> None:
    plan = plan_of(FP8, load={"steps": STEPS}, workload=LONG)
    found = fit(plan, None, measured_with(plan, {"peak": 0.8}))
    assert found.efficiencies.fp8_gemm_peak == pytest.approx(FITTED.fp8_gemm_peak * 0.8, rel=0.03)
    assert found.efficiencies.weight_only_gemm_peak == FITTED.weight_only_gemm_peak


def test_an_open_loop_is_fitted_by_its_latencies() -> None:
    plan = plan_of(TP1, load={"mode": "open", "steps": [1, 4], "hold_s": 30}, workload=LONG)
    arrivals = Arrivals(kind=ArrivalKind.POISSON, burstiness=1.0, trace=None)
    found = fit(plan, arrivals, measured_with(plan, {"bandwidth": 0.8}, arrivals=arrivals))
    assert by_name(found)["bandwidth"].value == pytest.approx(0.8, rel=0.05)


def test_only_valid_steps_are_taken_and_only_figures_that_are_known() -> None:
    known = {"value": 100.0, "low": 96.0, "high": 104.0, "n": 9}
    unknown = {"value": None, "low": None, "high": None, "n": 0}
    valid = {"load": 4.0, "verdict": "valid", "output_tokens_per_s": known}
    valid |= {"ttft_ms": {"p50": known}, "tpot_ms": {"p50": unknown}}
    summary = {"topologies": {"one": {"steps": [valid, valid | {"load": 8.0, "verdict": "invalid"}]}}}
    (step,) = measured_steps(summary)
    assert (step.load, set(step.figures)) == (4.0, {Figure.TOKENS_PER_S, Figure.TTFT_MS})
    assert step.figures[Figure.TTFT_MS].log_sd == pytest.approx(0.0204, rel=0.01)  # ln(104 / 96) / (2 × 1.96)


def test_nothing_is_fitted_to_no_step_or_to_one_load() -> None:
    plan = telling_plan()
    with pytest.raises(NothingToFit, match="no step is valid"):
        fit(plan, None, [])
    one_load = [step for step in measured_with(plan, {}) if step.load == 4]
    assert len(one_load) == 2
    with pytest.raises(NothingToFit, match=r"only one load \(4\)"):
        fit(plan, None, one_load)


def test_nothing_is_fitted_to_figures_that_are_hardly_known() -> None:
    plan = plan_of(TP4, load={"steps": [1, 2]})
    with pytest.raises(NothingToFit, match="do not tell any constant"):
        fit(plan, None, measured_with(plan, {}, log_sd=1.0))


@pytest.mark.parametrize(
    ("topology", "why"),
    [
        ({"name": "far", "kind": "external", "url": "http://far:1"}, "it has no gpus"),
        (
            {
                "name": "far",
                "kind": "external",
                "url": "http://far:1",
                "gpus": {"type": "abacus", "count": 1},
                "engines": [{"tp": 1}],
            },
            "GPU abacus is not in the catalogue",
        ),
    ],
)
def test_a_topology_that_the_model_does_not_know_is_refused_with_the_reason(
    topology: dict[str, object], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        fit(plan_of(topology), None, [])


def test_a_soak_has_no_staircase_to_fit_to() -> None:
    with pytest.raises(UsageError, match="only a staircase"):
        fit(plan_of(TP4, load={"shape": "soak", "steps": [4], "hold_s": 60}), None, [])


def test_every_constant_but_that_of_cut_prompts_has_one_factor() -> None:
    """That one was chosen, not fitted: docs/model.md."""
    named = [name for factor in FACTORS for name in factor.constants]
    assert len(named) == len(set(named))
    assert set(FITTED.__dataclass_fields__) - set(named) == {"cut_prompt_layer_s"}


def test_constants_of_the_engines_formats_alone_are_used() -> None:
    step_models = [one.scheduler.step_model for one in known_fleet(plan_of(TP1)).engines]
    used = used_constants(step_models)
    assert "gemm_peak" in used
    assert not {"fp8_gemm_peak", "weight_only_gemm_peak", "all_reduce_time"} & set(used)
    assert scaled({"peak": 0.5}, used).gemm_peak == FITTED.gemm_peak / 2
