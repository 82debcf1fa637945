"""What the report says of the load generator itself: its ceiling and timing error, from `loadstair calibrate`."""

from collections.abc import Mapping
from typing import Any

from loadstair.report import view

NOT_CALIBRATED = (
    "How much the load generator itself can carry on its machine is not known: there was no calibration that fits it "
    "(`loadstair calibrate` makes one)."
)

PREDICTED_HOW = (
    "Nothing was measured. The engines are the simulated engine's scheduler and step times for these GPUs; the users, "
    "the arrivals and the lengths of the requests are the plan's. All of it ran in simulated time, so the time stamps "
    "are the model's, and network, load generator and operating system have no part in them."
)


def generator_words(generator: Mapping[str, Any] | None) -> str:
    """`generator`: as in summary.json."""
    if generator is None:
        return NOT_CALIBRATED
    workers = generator["workers"]
    rates = (
        f"{view.digits(generator['ceiling_chunks_per_s_per_worker'])} token chunks/s and "
        f"{view.digits(generator['ceiling_requests_per_s_per_worker'])} requests/s"
    )
    all_of_them = f"; the {workers} of this run {workers} times that" if workers > 1 else ""
    bound = f" At least: {generator['lower_bound']}." if generator["lower_bound"] else ""
    return (
        f"The load generator's ceiling: one worker process carried {rates}{all_of_them} "
        f"(loadstair calibrate, {view.moment(generator['date'])}, against {truth_words(generator['ground_truth'])})."
        f"{bound} At that rate TTFT was off by {_ms(generator['ttft_error_ms_p99'])} and ITL by "
        f"{_ms(generator['itl_error_ms_p99'])} (p99) from what the server wrote."
    )


def truth_words(ground_truth: str) -> str:
    return {"native": "a native paced server", "simulated": "the simulated engine"}[ground_truth]


def _ms(value: float | None) -> str:
    return "an unknown time" if value is None else f"{view.error_ms(value)} ms"
