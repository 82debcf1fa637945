"""A worker that sends no requests: it records ready-made responses at a given rate, for bench/transport.py --rate.

    python bench/feeder.py PORT REQUESTS_PER_S TOKENS

From the recorder on everything is a worker's: parsing, records, histograms, batches, spool, channel to the master.
"""

import os
import sys
from array import array
from typing import Final

import gevent
from locust.env import Environment

from loadstair.clock import monotonic_ns, now_ns
from loadstair.drive.locustfile import locustfile
from loadstair.load.attempt import Attempt, Ended
from loadstair.load.commanded import CommandedLoad
from loadstair.load.exchange import Exchange
from loadstair.load.install import prepare_locust
from loadstair.load.remote import introduce
from loadstair.load.tag import Tag
from loadstair.load.user import ChatUser
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import Phase
from loadstair.units import NS_PER_MS, NS_PER_S

EVENT: Final = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
)
LAST: Final = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
GAP_NS: Final = 20 * NS_PER_MS
TICK_S: Final = 0.01
AT_ONCE_MAX: Final = 40
"""A core that cannot do so much records less, and still answers."""
TAG: Final = Tag(step=0, load=1.0, phase=Phase.HOLD)


class Responses:
    """Each sent so long ago that it has just ended; one token every 20 ms."""

    def __init__(self, tokens: int) -> None:
        self._body = EVENT * tokens + LAST
        self._ends = array("I", [len(EVENT) * token for token in range(1, tokens + 1)] + [len(self._body)])
        self._after_ns = [GAP_NS * place for place in range(1, tokens + 2)]
        self._spec = RequestSpec(input_tokens=16, output_tokens=tokens, prefix_tokens=0, text_seed=0)
        self._made = 0

    def make(self) -> Attempt:
        self._made += 1
        sent_ns = now_ns() - self._after_ns[-1]
        exchange = Exchange(f"{os.getpid()}-{self._made}")
        exchange.status, exchange.content_type, exchange.sent_ns = 200, "text/event-stream", sent_ns
        exchange.body += self._body
        exchange.stamps_ns.extend([sent_ns + after_ns for after_ns in self._after_ns])
        exchange.end_offset.extend(self._ends)
        exchange.waited_us.extend([0] * len(self._ends))
        return Attempt(
            name="chat",
            tag=TAG,
            index=self._made,
            spec=self._spec,
            prompt_words=None,
            exchange=exchange,
            due_ns=None,
            dispatch_ns=sent_ns,
            clock_offset_ns=0,
        )


def main() -> None:
    port, rate, tokens = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    prepare_locust()
    environment = Environment(user_classes=[ChatUser], parsed_locustfiles=[str(locustfile())])
    runner = environment.create_worker_runner("127.0.0.1", port)
    config = introduce(environment, runner)
    commanded = CommandedLoad(config, environment, runner, nonce=config.nonce.encode())
    commanded.listen()
    recorder, responses = commanded.load.recorder, Responses(tokens)
    begun_ns, made = monotonic_ns(), 0
    while len(runner.greenlet):  # until the master has gone
        due = int(rate * (monotonic_ns() - begun_ns) / NS_PER_S) - made
        for _ in range(min(due, AT_ONCE_MAX)):
            attempt = responses.make()
            recorder.start(attempt)
            recorder.end(Ended(attempt=attempt, failure=None, end_ns=now_ns(), clock_step=False))
            made += 1
        gevent.sleep(TICK_S)


if __name__ == "__main__":
    main()
