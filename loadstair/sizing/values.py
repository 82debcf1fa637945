"""A sizing as plain values: what `loadstair size --json` prints. The keys: docs/sizing.md. Unknown is null."""

from loadstair.serving.memory import kv_bytes_per_sequence, kv_bytes_per_token, weights_bytes
from loadstair.sizing.case import Case
from loadstair.sizing.cost import BreakEven, UnitCost, UsdRange
from loadstair.sizing.fit import Fit
from loadstair.sizing.partition import Instance, Partition
from loadstair.sizing.sizing import Candidate, Sizing
from loadstair.sizing.speed import Expected, Speed

SCHEMA = 1
Values = dict[str, object]


def sizing_values(sizing: Sizing) -> Values:
    return {
        "schema": SCHEMA,
        "case": _case_values(sizing.case, sizing.busy_share),
        "candidates": [_candidate_values(one) for one in sizing.candidates],
        "too_small": [memory_values(one) for one in sizing.too_small],
        "partitions": [_partition_values(one) for one in sizing.partitions],
        "claims": [{"id": one.id, "said": one.said, "true": one.true} for one in sizing.claims],
    }


def _case_values(case: Case, busy_share: float) -> Values:
    return {
        "model": case.model.name,
        "parameters": case.model.parameters,
        "weights_format": case.formats.weights,
        "kv_format": case.formats.kv,
        "weights_bytes": weights_bytes(case.model, case.formats),
        "kv_bytes_per_token": kv_bytes_per_token(case.model, case.formats),
        "kv_bytes_per_sequence": kv_bytes_per_sequence(case.model, case.context_tokens, case.formats),
        "concurrent": case.concurrent,
        "context_tokens": case.context_tokens,
        "input_tokens": case.input_tokens,
        "output_tokens": case.output_tokens,
        "gpu_memory_utilization": case.gpu_memory_utilization,
        "ttft_s_p99_max": case.limits.ttft_s_p99,
        "itl_s_p99_max": case.limits.itl_s_p99,
        "busy_share": busy_share,
        "efficiencies_from": case.efficiencies_from,
    }


def memory_values(fit: Fit) -> Values:
    """Bytes are of each GPU."""
    budget = fit.budget
    return {
        "topology": fit.name,
        "gpu": fit.gpu.name,
        "gpus": fit.gpus,
        "tp": fit.tp,
        "engines": fit.engines,
        "weights_bytes": budget.weights_bytes,
        "kv_asked_bytes": fit.asked_kv_bytes,
        "activations_bytes": budget.activations_bytes,
        "overhead_bytes": budget.collectives_bytes + budget.other_bytes,
        "needed_bytes": fit.needed_bytes,
        "budget_bytes": budget.budget_bytes,
        "kv_room_bytes": budget.kv_bytes,
        "sequences_per_engine": fit.sequences,
        "sequences": fit.sequences * fit.engines,
        "carries": fit.carries,
        "kv_use": fit.kv_use,
    }


def _candidate_values(one: Candidate) -> Values:
    return {
        **memory_values(one.fit),
        "peer_to_peer": one.fit.gpu.peer_to_peer,
        "unverified": list(one.fit.gpu.unverified),
        "speed": _speed_values(one.speed),
        "ttft_limit": one.ttft,
        "itl_limit": one.itl,
        "price_source": one.price.source,
        "usd_per_gpu_hour": _usd_values(one.price.usd_per_hour),
        "usd_per_hour": _usd_values(one.cost.usd_per_hour),
        "full_use": _unit_cost_values(one.cost.full_use),
        "part_use": _unit_cost_values(one.cost.part_use),
        "break_even": None if one.cost.break_even is None else _break_even_values(one.cost.break_even),
    }


def _speed_values(speed: Speed) -> Values:
    return {
        "output_tokens_per_s": _expected_values(speed.output_tokens_per_s),
        "requests_per_s": speed.requests_per_s,
        "ttft_s_mean": _expected_values(speed.ttft_s_mean),
        "ttft_s_p99": _expected_values(speed.ttft_s_p99),
        "itl_s_mean": _expected_values(speed.itl_s_mean),
        "itl_s_p99": _expected_values(speed.itl_s_p99),
        "peak_share": speed.peak_share,
    }


def _unit_cost_values(one: UnitCost) -> Values:
    return {
        "busy_share": one.busy_share,
        "usd_per_million_output_tokens": _usd_values(one.usd_per_million_output_tokens),
        "usd_per_million_tokens": _usd_values(one.usd_per_million_tokens),
        "usd_per_million_requests": _usd_values(one.usd_per_million_requests),
    }


def _break_even_values(one: BreakEven) -> Values:
    return {
        "requests_per_day": {"low": one.requests_per_day.low, "high": one.requests_per_day.high},
        "requests_per_day_max": one.requests_per_day_max,
        "reached": one.reached,
        "api_usd_per_million_requests": one.api_usd_per_million_requests,
    }


def _partition_values(one: Partition) -> Values:
    return {
        "gpu": one.gpu.name,
        "share": one.share,
        "fits": one.fits,
        "instances": [_instance_values(instance) for instance in one.instances],
    }


def _instance_values(one: Instance) -> Values:
    return {
        "model": one.tenant.model.name,
        "weights_format": one.tenant.formats.weights,
        "gpu_memory_utilization": one.tenant.share,
        "context_tokens": one.tenant.context_tokens,
        "weights_bytes": one.budget.weights_bytes,
        "activations_bytes": one.budget.activations_bytes,
        "overhead_bytes": one.budget.other_bytes,
        "budget_bytes": one.budget.budget_bytes,
        "kv_room_bytes": one.budget.kv_bytes,
        "sequences": one.sequences,
        "budget_if_share_of_the_rest_bytes": round(one.share_of_the_rest * one.budget.total_bytes),
    }


def _expected_values(one: Expected) -> Values:
    return {"value": one.value, "low": one.low, "high": one.high}


def _usd_values(one: UsdRange) -> Values:
    return {"low": one.low, "high": one.high}
