"""The keys of summary.json that a threshold's path may go through: known before anything is measured.

The file itself is made by `loadstair.analysis.summary`; a test holds this description against a real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Union


class Leaf(Enum):
    NUMBER = auto()
    """Compared as it is; may be null in a run that could not measure it."""
    OTHER = auto()
    """Text, a truth value, a list of such or of findings: no threshold can end here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """A list of entries of one shape."""

    entry: "Shape"
    key: str | None = None
    """What the plan knows the entries by, each of them: `load`, or `id` of a matrix test; None where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Numbers by names that only the run knows."""


Shape = Union[Mapping[str, "Shape"], Entries, Named, Leaf]  # noqa: UP007 a forward reference cannot be joined with |

NUMBER: Final = Leaf.NUMBER
OTHER: Final = Leaf.OTHER


def _numbers(names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), NUMBER)


def _others(names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), OTHER)


def _estimates(names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), ESTIMATE)


def _ratios(names: str) -> dict[str, Shape]:
    return {name: {**ESTIMATE, "claim": OTHER} for name in names.split()}


ESTIMATE: Final[Mapping[str, Shape]] = {**_numbers("value low high n"), "findings": OTHER}
"""A path may end at the estimate: its value is meant."""

PERCENTILES: Final[Mapping[str, Shape]] = _estimates("mean p50 p90 p99")

STEP: Final[Mapping[str, Shape]] = {
    **_numbers("load in_flight_mean physical_ceiling_tokens_per_s"),
    **_others("verdict reasons warnings slo_met"),
    **_estimates("output_tokens_per_s requests_per_s goodput_rps output_tokens_per_joule error_rate"),
    **dict.fromkeys(("ttft_ms", "ttft_due_ms", "itl_ms", "tpot_ms", "e2e_ms"), PERCENTILES),
    "slo": Entries(entry={**_numbers("limit share_beyond"), **_others("name met")}),
    "outcomes": Named(),
    "stalls": _numbers("count requests longest_ms"),
    "stamps": {**_numbers("chunks bunched_share bunched_late_share read_lag_ms_p99"), "clocks": OTHER},
    "upstreams": Named(),
    "predicted": _numbers("output_tokens_per_s ttft_ms_p50"),
    "telemetry": _numbers(
        "requests_running requests_waiting kv_usage preemptions generator_cpu_percent host_cpu_percent "
        "gpu_memory_used_bytes_max gpu_power_watts"
    ),
    "visits": Entries(
        entry={
            **_numbers("visit repeat step hold_start_ns hold_end_ns output_tokens_per_s requests_per_s"),
            **_numbers("ttft_ms_p50 e2e_ms_p50"),
            **_others("role verdict findings workers"),
            "outcomes": Named(),
        }
    ),
}

TOPOLOGY: Final[Mapping[str, Shape]] = {
    **_others("kind stopped"),
    "gpus": {**_numbers("count usd_per_hour"), **_others("type link")},
    "steps": Entries(entry=STEP, key="load"),
    "capacity": {
        **_estimates("output_tokens_per_s requests_per_s goodput_rps output_tokens_per_s_per_gpu"),
        **_estimates("usd_per_million_output_tokens usd_per_million_requests output_tokens_per_joule"),
        **_numbers("saturation_load goodput_load knee_load latency_doubling_load failure_load slo_capacity_load"),
        **_numbers("slo_violated_load recommended_load"),
        **_estimates("slo_capacity knee"),
        **_others("fit failure_kind failure_message"),
        "full_batch": {**_estimates("contention full_load knee_load"), **_others("misfit findings")},
        "piecewise": {**_estimates("slope_below slope_above knee_load"), **_others("misfit findings")},
        "usl": {
            **_estimates("contention coherency knee_load peak_load peak_tokens_per_s"),
            **_others("misfit findings"),
        },
        "findings": OTHER,
    },
}

SOAK_SERIES: Final[Mapping[str, Shape]] = {
    "drift_per_hour": ESTIMATE,
    **_numbers("level drift_share"),
    **_others("claim values"),
}
SOAK_MEMORY: Final[Mapping[str, Shape]] = {**SOAK_SERIES, "hours_until_full": ESTIMATE}

SOAK: Final[Mapping[str, Shape]] = {
    **_numbers("load hold_s window_s visit repeats claim_level"),
    **_others("verdict time_s findings"),
    **dict.fromkeys(("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"), dict.fromkeys(("p50", "p90", "p99"), SOAK_SERIES)),
    **dict.fromkeys(("output_tokens_per_s", "in_flight", "error_rate", "requests_waiting", "kv_usage"), SOAK_SERIES),
    **dict.fromkeys(("gpu_memory_bytes", "engine_memory_bytes"), SOAK_MEMORY),
}

SPIKE: Final[Mapping[str, Shape]] = {
    **_numbers("usual_load surge_load recovery_s_at_least recovered_share failed waiting_peak"),
    **_estimates("recovery_s lost_s ttft_ms_p90_peak ttft_ms_p99_peak share_beyond"),
    **_others("verdict findings course"),
    "visits": Entries(
        entry={
            **_numbers("visit repeat surge_s observed_s lost_s recovery_s ttft_ms_p90_peak ttft_ms_p99_peak"),
            **_numbers("share_beyond requests failed waiting_peak"),
            "held_before": OTHER,
        }
    ),
}

MATRIX: Final[Mapping[str, Shape]] = {
    "tests": Entries(
        entry={
            **_others("id verdict status reasons notes errors"),
            **_numbers("users runs duration_s"),
            **_numbers("input_tokens output_tokens output_tokens_asked_max requests answered slowest_ms success_rate"),
            **_numbers("gpu_memory_used_bytes_max"),
            **_estimates("ttft_ms tpot_ms e2e_ms output_tokens_per_s latency_ratio"),
        },
        key="id",
    ),
    "baselines": Entries(
        entry={
            **_others("label verdict reasons"),
            **_numbers("input_tokens output_tokens requests"),
            **_estimates("ttft_ms tpot_ms e2e_ms output_tokens_per_s"),
        }
    ),
    "answers": Entries(
        entry={
            **_numbers("input_tokens output_tokens"),
            **{
                name: {"users": NUMBER, **_others("test certain words")}
                for name in ("out_of_memory", "latency_doubles", "saturates", "recommended")
            },
        }
    ),
    "findings": OTHER,
}

COMPARISON: Final[Mapping[str, Shape]] = {
    **_others("first other caveat unequal findings"),
    **_ratios("throughput_ratio goodput_ratio throughput_per_gpu_ratio usd_per_million_output_tokens_ratio"),
    **_ratios("output_tokens_per_joule_ratio"),
    "steps": Entries(
        entry={
            "load": NUMBER,
            **_ratios("throughput_ratio requests_ratio ttft_p50_ratio itl_p50_ratio e2e_p50_ratio"),
            **_ratios("throughput_per_gpu_ratio usd_per_million_output_tokens_ratio output_tokens_per_joule_ratio"),
        },
        key="load",
    ),
    **_estimates("throughput_crossover_load latency_crossover_load"),
}
