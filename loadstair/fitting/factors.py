"""What a fit may change: four factors, each on a group of the step model's constants."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from loadstair.serving.efficiencies import FITTED, Efficiencies
from loadstair.serving.steptime import StepModel, StepShape

FACTOR_MIN, FACTOR_MAX = 0.3, 1.2
"""Of the shares that kernels reach of a data sheet; none of them may pass 1."""
TIME_MIN, TIME_MAX = 0.3, 1 / 0.3
"""Of seconds, which have no limit in physics."""
MIXED: Final = StepShape(prefill=((512, 0),), decode_rows=16, decode_context_tokens=16 * 1024, sampled_rows=17)
"""A step that every constant has a part in, but for what cut prompts cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """All constants of the group are multiplied by the same number, 1 being what is shipped."""

    name: str
    constants: tuple[str, ...]
    are_times: bool
    """Seconds: above 1 is slower. Shares of a data sheet: above 1 is faster."""
    prior_sd: float
    """Of the factor's logarithm, before anything was measured: how far engines differ from one another."""
    words: str

    @property
    def low(self) -> float:
        return TIME_MIN if self.are_times else FACTOR_MIN

    @property
    def high(self) -> float:
        if self.are_times:
            return TIME_MAX
        largest: float = max(getattr(FITTED, name) for name in self.constants)
        return min(FACTOR_MAX, 1 / largest)


BANDWIDTH: Final = Factor(
    name="bandwidth",
    constants=(
        "gemm_bandwidth",
        "fp8_gemm_bandwidth",
        "weight_only_gemm_bandwidth",
        "decode_attention_bandwidth",
        "elementwise_bandwidth",
    ),
    are_times=False,
    prior_sd=0.3,
    words="shares of the memory bandwidth",
)
PEAK: Final = Factor(
    name="peak",
    constants=("gemm_peak", "fp8_gemm_peak", "weight_only_gemm_peak", "prefill_attention_peak"),
    are_times=False,
    prior_sd=0.3,
    words="shares of the arithmetic peak",
)
FIXED: Final = Factor(
    name="fixed_time",
    constants=(
        "gemm_start_s",
        "fp8_gemm_start_s",
        "weight_only_gemm_start_s",
        "decode_attention_start_s",
        "decode_attention_row_s",
        "elementwise_start_s",
        "cpu_step_s",
        "cpu_sequence_s",
    ),
    are_times=True,
    prior_sd=0.5,
    words="starts of kernels and CPU time",
)
ALL_REDUCE: Final = Factor(
    name="all_reduce_time", constants=("all_reduce_time",), are_times=True, prior_sd=0.5, words="time of all-reduces"
)
FACTORS: Final = (BANDWIDTH, PEAK, FIXED, ALL_REDUCE)

Scales = Mapping[str, float]
"""By a factor's name; one that is missing is 1."""


def scaled(scales: Scales, used: Sequence[str] | None = None) -> Efficiencies:
    """The shipped constants times their group's factor. `used`: only these constants; None for all."""
    changed = {
        name: getattr(FITTED, name) * scales[factor.name]
        for factor in FACTORS
        if factor.name in scales
        for name in factor.constants
        if used is None or name in used
    }
    return replace(FITTED, **changed)


def used_constants(step_models: Sequence[StepModel]) -> tuple[str, ...]:
    """Those that a step of any of these engines depends on: of another format's nothing can be learnt."""
    plain_s = [one.step_s(MIXED) for one in step_models]

    def matters(name: str) -> bool:
        other = replace(FITTED, **{name: getattr(FITTED, name) / 2})
        changed_s = [one.with_efficiencies(other).step_s(MIXED) for one in step_models]
        return any(not math.isclose(a, b, rel_tol=1e-9) for a, b in zip(plain_s, changed_s, strict=True))

    return tuple(one.name for one in fields(Efficiencies) if matters(one.name))
