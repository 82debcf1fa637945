"""Request records as the load room makes them."""

from loadstair.load.attempt import Attempt
from loadstair.load.exchange import Exchange
from loadstair.load.tag import Tag
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import Outcome, Phase, RequestSample, StampClock

MS = 1_000_000
SENT_NS = 1_700_000_000_000_000_000


def record(
    *after_ms: float,
    outcome: Outcome = Outcome.OK,
    output_tokens: int | None = None,
    chunk_tokens: list[int] | None = None,
    **more: object,
) -> RequestSample:
    """Sent at SENT_NS; tokens came so many ms later. `output_tokens`: as the server counts, by default one a chunk."""
    arrivals = [SENT_NS + round(ms * MS) for ms in after_ms]
    values: dict[str, object] = {
        "request_id": "r",
        "visit": 0,
        "topology": "",
        "repeat": 0,
        "step": 0,
        "load": 0.0,
        "phase": Phase.WARMUP,
        "worker": "worker-0",
        "index": 0,
        "due_ns": None,
        "dispatch_ns": SENT_NS - MS,
        "sent_ns": SENT_NS,
        "dns_ns": None,
        "connect_ns": None,
        "tls_ns": None,
        "headers_ns": None,
        "first_token_ns": arrivals[0] if arrivals else None,
        "last_token_ns": arrivals[-1] if arrivals else None,
        "end_ns": arrivals[-1] if arrivals else SENT_NS + MS,
        "arrivals": arrivals,
        "chunk_tokens": chunk_tokens,
        "output_tokens": len(arrivals) if output_tokens is None else output_tokens,
        "input_tokens": 7,
        "cached_input_tokens": None,
        "output_tokens_asked": 3,
        "input_tokens_asked": 7,
        "outcome": outcome,
        "status": 200,
        "error": None,
        "finish_reason": "length",
        "upstream": None,
        "read_lag_ns": 0,
        "bunched": 0,
        "bunched_late": 0,
        "late_reads": 0,
        "clock": StampClock.KERNEL,
        "clock_step": False,
    }
    return RequestSample(**{**values, **more})  # type: ignore[arg-type]


def attempt(name: str = "chat") -> Attempt:
    return Attempt(
        name=name,
        tag=Tag(step=0, load=0.0, phase=Phase.WARMUP),
        index=0,
        spec=RequestSpec(input_tokens=7, output_tokens=3, prefix_tokens=0, text_seed=0),
        prompt_words=7,
        exchange=Exchange("r"),
        due_ns=None,
        dispatch_ns=SENT_NS,
        clock_offset_ns=0,
    )
