"""The parts of summary.json that a soak and a spike have: null for a topology that was not measured so far."""

from collections.abc import Sequence
from dataclasses import asdict

from loadstair.analysis.shape.soak import Soak, SoakSeries
from loadstair.analysis.shape.spike import Spike, VisitSpike
from loadstair.analysis.summary_values import Values, estimate_values, finding_values


def soak_values(one: Soak | None) -> Values | None:
    """Series by metric and percentile, as the steps have them; times in s, drifts per hour in the series' own unit."""
    if one is None:
        return None
    values: Values = {
        "load": one.load,
        "verdict": _verdict(one.valid),
        "hold_s": one.hold_s,
        "visit": one.visit,
        "repeats": one.repeats,
        "window_s": one.window_s,
        "time_s": list(one.time_s),
        "claim_level": one.claim_level,
    }
    percentiles: dict[str, Values] = {}
    for name, series in one.series.items():
        metric, _, percentile = name.partition(".")
        if percentile:
            percentiles.setdefault(metric, {})[percentile] = _series_values(series)
        else:
            values[name] = _series_values(series)
    values |= percentiles
    values["findings"] = [finding_values(finding) for finding in one.findings]
    return values


def _series_values(one: SoakSeries) -> Values:
    values: Values = {
        "level": one.level,
        "drift_per_hour": estimate_values(one.drift_per_hour),
        "drift_share": one.drift_share,
        "claim": one.claim,
        "values": list(one.values),
    }
    if one.hours_until_full is not None:
        values["hours_until_full"] = estimate_values(one.hours_until_full)
    return values


def spike_values(one: Spike | None) -> Values | None:
    if one is None:
        return None
    return {
        "usual_load": one.usual_load,
        "surge_load": one.surge_load,
        "verdict": _verdict(one.valid),
        "recovery_s": estimate_values(one.recovery_s),
        "recovery_s_at_least": one.recovery_s_at_least,
        "recovered_share": one.recovered_share,
        "lost_s": estimate_values(one.lost_s),
        "ttft_ms_p90_peak": estimate_values(one.ttft_ms_p90_peak),
        "ttft_ms_p99_peak": estimate_values(one.ttft_ms_p99_peak),
        "share_beyond": estimate_values(one.share_beyond),
        "failed": one.failed,
        "waiting_peak": one.waiting_peak,
        "visits": _visits_values(one.visits),
        "course": asdict(one.course),
        "findings": [finding_values(finding) for finding in one.findings],
    }


def _visits_values(visits: Sequence[VisitSpike]) -> list[Values]:
    return [{key: value for key, value in asdict(one).items() if key != "draws"} for one in visits]


def _verdict(valid: bool) -> str:
    return "valid" if valid else "invalid"
