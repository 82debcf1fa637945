"""Runs requests through the real client, as a worker would. Jobs on stdin, what came of them on stdout, as JSON."""

import contextlib
import json
import sys
from dataclasses import asdict

import gevent
from locust import User  # noqa: F401  first: importing it patches the process

from loadstair.clock import monotonic_ns, now_ns, realtime_minus_monotonic_ns
from loadstair.load.attempt import Attempt, ended, sample, stream_parser
from loadstair.load.client import Failure, LoadClient, request_body
from loadstair.load.config import LoadConfig
from loadstair.load.exchange import Exchange, body_bytes_max
from loadstair.load.tag import Tag
from loadstair.plan.model import Workload
from loadstair.plan.workload import RequestSpec
from loadstair.samples.record import Outcome, Phase

TOKENS = 5
TAG = Tag(step=0, load=1.0, phase=Phase.HOLD)


def run_one(
    client: LoadClient,
    workload: Workload,
    request_id: str,
    index: int,
    prompt: str,
    *,
    exchange: Exchange | None = None,
    locked: bool = False,
) -> dict[str, object]:
    """`locked`: with a body buffer that cannot grow, as a mistake in the client's own code could leave it."""
    spec = RequestSpec(input_tokens=3, output_tokens=TOKENS, prefix_tokens=0, text_seed=0)
    attempt = Attempt(
        name="chat",
        tag=TAG,
        index=index,
        spec=spec,
        prompt_words=3,
        exchange=exchange or Exchange(request_id, body_bytes_max=body_bytes_max(TOKENS)),
        due_ns=None,
        dispatch_ns=now_ns(),
        clock_offset_ns=realtime_minus_monotonic_ns(),
    )
    failure: Failure | None = Failure(Outcome.KILLED, "stopped")
    body = request_body(workload, system=None, prompt=prompt, output_tokens=TOKENS)
    lock = memoryview(attempt.exchange.body) if locked else contextlib.nullcontext()
    with contextlib.suppress(gevent.GreenletExit), lock:
        failure = client.send(attempt.exchange, body)
    over = ended(attempt, failure)
    parser = stream_parser(attempt.exchange)
    timeline = None
    if parser is not None:
        while not parser.advance(10):
            pass
        timeline = parser.timeline()
    return asdict(sample(over, timeline, visit=0, topology="t", repeat=0, worker="w"))


def run_job(job: dict[str, object]) -> list[dict[str, object]]:
    workload = Workload(model="m", input_tokens=3, output_tokens=TOKENS, endpoint=job.get("endpoint", "chat"))
    client = LoadClient(LoadConfig(workload=workload, headers={}, **job["config"]))
    prompt = "word " * job.get("words", 3)
    names = [f"{job['name']}-{number}" for number in range(job.get("requests", 1))]
    try:
        if job.get("kill"):
            exchange = Exchange(names[0])
            greenlet = gevent.spawn(run_one, client, workload, names[0], 0, prompt, exchange=exchange)
            while not exchange.end_offset:
                gevent.sleep(0.01)
            greenlet.kill()
            return [greenlet.value]
        if job.get("together"):
            greenlets = [gevent.spawn(run_one, client, workload, name, n, prompt) for n, name in enumerate(names)]
            gevent.joinall(greenlets, raise_error=True)
            return [greenlet.value for greenlet in greenlets]
        locked = bool(job.get("locked"))
        return [run_one(client, workload, name, n, prompt, locked=locked) for n, name in enumerate(names)]
    finally:
        client.close()


BUSY_S, FREE_S = 0.012, 0.003


def be_busy() -> None:
    """Keeps the loop from its sockets for most of the time, as a worker short of CPU does."""
    while True:
        until_ns = monotonic_ns() + int(BUSY_S * 1e9)
        while monotonic_ns() < until_ns:
            pass
        gevent.sleep(FREE_S)


if "busy" in sys.argv:
    gevent.spawn(be_busy)
jobs = json.load(sys.stdin)
greenlets = {job["name"]: gevent.spawn(run_job, job) for job in jobs}
gevent.joinall(list(greenlets.values()), raise_error=True)
json.dump({name: greenlet.value for name, greenlet in greenlets.items()}, sys.stdout, default=list)
