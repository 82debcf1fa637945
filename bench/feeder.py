"""A worker that sends no requests: it records ready-made responses at a given rate, for bench/transport.py.

    python bench/feeder.py PORT REQUESTS_PER_S TOKENS

From the recorder on everything is a worker's: its parsing, records, batches, spool and channel to the master.
"""

import logging
import sys
from typing import Final

import gevent
from locust.env import Environment

from loadstair.clock import monotonic_ns, now_ns
from loadstair.drive.locustfile import locustfile
from loadstair.load.attempt import Attempt, Ended
from loadstair.load.commanded import CommandedLoad
from loadstair.load.exchange import Exchange
from loadstair.load.remote import introduce, tell_in
from loadstair.load.tag import Tag
from loadstair.load.user import ChatUser
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import Phase
from loadstair.units import NS_PER_MS, NS_PER_S

EVENT: Final = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
LAST: Final = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
GAP_NS: Final = 20 * NS_PER_MS
TICK_S: Final = 0.01


def response(number: int, tokens: int) -> Attempt:
    """Sent so long ago that it has just ended; one token every 20 ms."""
    sent_ns = now_ns() - (tokens + 1) * GAP_NS
    exchange = Exchange(f"{sys.argv[1]}-{number}")
    exchange.status, exchange.sent_ns = 200, sent_ns
    for token in range(1, tokens + 1):
        exchange.body += EVENT
        exchange.note_arrival(sent_ns + token * GAP_NS, sent_ns + token * GAP_NS, 0)
    exchange.body += LAST
    exchange.note_arrival(sent_ns + (tokens + 1) * GAP_NS, sent_ns + (tokens + 1) * GAP_NS, 0)
    return Attempt(
        name="chat",
        tag=Tag(step=0, load=1.0, phase=Phase.HOLD),
        index=number,
        spec=RequestSpec(input_tokens=16, output_tokens=tokens, prefix_tokens=0, text_seed=0),
        prompt_words=None,
        exchange=exchange,
        due_ns=None,
        dispatch_ns=sent_ns,
        clock_offset_ns=0,
    )
