"""The process of one simulated engine: event loop, signals, orderly end."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from loadstair import clock
from loadstair.errors import LoadstairError
from loadstair.simserver.engine import Engine
from loadstair.simserver.faults import DieAt, Pace
from loadstair.simserver.ledger import LedgerWriter
from loadstair.simserver.metrics import EngineMetrics
from loadstair.simserver.options import Options, parse_options
from loadstair.simserver.pages import buckets_of
from loadstair.simserver.scheduler import Scheduler
from loadstair.simserver.selector import MicrosecondEpollSelector, reduce_timer_slack
from loadstair.simserver.server import Server, listening

LEDGER_FLUSH_S = 0.5
DRAIN_LOOK_S = 0.02
DIED_STATUS = 17
"""Exit status of the `die-at` fault."""


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT, and after it for as long as `--shutdown-timeout` lets requests end; then 0. The
    status of a LoadstairError otherwise."""
    try:
        options = parse_options(argv)
        with ExitStack() as stack:
            ledger = None if options.ledger is None else stack.enter_context(LedgerWriter(options.ledger))
            return _run(options, ledger)
    except LoadstairError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _run(options: Options, ledger: LedgerWriter | None) -> int:
    reduce_timer_slack()
    _allow_many_connections()
    loop = asyncio.SelectorEventLoop(MicrosecondEpollSelector())
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_serve(options, ledger))


def _allow_many_connections() -> None:
    """Up to the hard limit: the usual soft one of 1024 files ends below a saturating load."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(options: Options, ledger: LedgerWriter | None) -> int:
    loop = asyncio.get_running_loop()
    metrics = EngineMetrics(buckets=buckets_of(options.http.dialect), max_model_len=options.max_model_len)
    pace = Pace(options.http.faults, start_ns=clock.monotonic_ns())
    engine = Engine(Scheduler(options.scheduler), metrics, ledger, loop, pace=pace)
    stopped, cut = _stop_status(loop)
    server = Server(options, engine)
    async with listening(server, options.host, options.port) as origin:
        sys.stdout.write(f"listening on {origin}\n")
        sys.stdout.flush()
        for fault in options.http.faults:
            if isinstance(fault, DieAt):
                loop.call_later(fault.after_s, _die, engine, ledger)
        try:
            await _flush_until(stopped, ledger)
            if stopped.result() == 0 and options.http.shutdown_timeout_s:
                server.refuse_new_requests()
                await _drained(engine, cut, options.http.shutdown_timeout_s)
        finally:
            engine.abort_all()
    return max(future.result() for future in (stopped, cut) if future.done())


def _die(engine: Engine, ledger: LedgerWriter | None) -> None:
    """Without a word to the clients; the ledger knows what they got."""
    engine.abort_all()
    if ledger is not None:
        ledger.flush()
    os._exit(DIED_STATUS)


def _stop_status(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Future[int], asyncio.Future[int]]:
    """Set to 0 by a signal, to 1 by a fault of our own, after which the engine's plan can't be trusted. The second is
    set by the next such event: nothing is waited for any more."""
    stopped: asyncio.Future[int] = loop.create_future()
    cut: asyncio.Future[int] = loop.create_future()

    def stop(status: int) -> None:
        for future in (stopped, cut):
            if not future.done():
                future.set_result(status)
                return

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        loop.default_exception_handler(context)
        # Of a callback: a step of the engine failed. The rest (no file descriptor left for accept) passes.
        if "handle" in context:
            stop(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, 0)
    loop.set_exception_handler(fail)
    return stopped, cut


async def _drained(engine: Engine, cut: asyncio.Future[int], timeout_s: float) -> None:
    """Returns when every request has ended, when the time is over, or when there is a second signal."""
    deadline = clock.Deadline.after_s(timeout_s)
    while not (engine.idle or cut.done() or deadline.passed()):
        await asyncio.wait([cut], timeout=DRAIN_LOOK_S)


async def _flush_until(stopped: asyncio.Future[int], ledger: LedgerWriter | None) -> None:
    """Every half second. Raises StorageError when the ledger cannot be written: nothing could be checked any more."""
    while not stopped.done():
        await asyncio.wait([stopped], timeout=LEDGER_FLUSH_S)
        if ledger is not None:
            ledger.flush()
