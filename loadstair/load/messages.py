"""What the master and the workers say to each other, as Locust custom messages.

A command carries `id` and `kind`; the answer the same `id`. Batches of records travel on their own, on the same
ordered connection: a worker's answer to a flush comes after all its batches. Batches, and the answers to a flush and a
stop, carry `counters` and `batches` (how many were sent until then): the counters match the records of exactly those.
A batch also brings `latencies`: what is known by then of the steps that its records belong to.
"""

from enum import StrEnum
from typing import Final

COMMAND: Final = "loadstair_command"
ANSWER: Final = "loadstair_answer"
BATCH: Final = "loadstair_batch"
READY: Final = "loadstair_ready"
"""From a worker that obeys now. Locust itself counts a worker before its locustfile has done its part."""

HELLO: Final = "loadstair_hello"
"""From a worker on another host: its `loadstair.load.identity`; repeated until it is answered."""
WELCOME: Final = "loadstair_welcome"
"""To it: `config`, or why not: `refused` (for good), `surplus` (in this visit)."""
UNFIT: Final = "loadstair_unfit"
"""From one that was let in and cannot do what the configuration asks: why."""

FLUSH_S: Final = 20.0
"""What a worker may take to parse and send what it has."""

LENGTHS: Final = ("input_tokens", "output_tokens")


class Command(StrEnum):
    STATUS = "status"
    CLOCK = "clock"
    """What time it is there; the answer brings `sent_ns` back."""
    PROCESS = "process"
    """What it has used so far; the answer has `process` (`loadstair.load.own_process`)."""
    STEP = "step"
    """name (of this worker), rank (among the step's workers), workers, step, load, active (users of this worker that
    run), growth_s, phase; of a burst also requests_per_user, input_tokens and output_tokens (as the plan's lengths), of
    an open loop start_ns (of the schedule) and in_flight_max (of this worker), else None"""
    PHASE = "phase"
    DRAIN = "drain"
    FLUSH = "flush"
    KEPT = "kept"
    """batches: so many of this worker's are on the orchestrator's disk by now"""
    STOP = "stop"
