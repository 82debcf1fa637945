"""The step clock: late steps are reported and do not make the engine slower than its plan."""

import asyncio
from dataclasses import dataclass, field

import pytest

from loadstair.serving.catalogue import find_gpu, find_model
from loadstair.serving.steptime import StepModel
from loadstair.simserver.answer import CollectedAnswer, SlowClientError
from loadstair.simserver.engine import AbortedError, Engine, Live
from loadstair.simserver.faults import STEADY, Pace, Slow, Stall
from loadstair.simserver.metrics import EngineMetrics
from loadstair.simserver.scheduler import FinishReason, Request, Scheduler, SchedulerConfig
from loadstair.simserver.vllm_page import VLLM_BUCKETS
from loadstair.units import NS_PER_MS, NS_PER_S

STEP_MODEL = StepModel(find_model("Qwen/Qwen2.5-32B-Instruct"), find_gpu("h100-nvl"), 2, "nvlink_pairs")
CONFIG = SchedulerConfig(step_model=STEP_MODEL, kv_tokens=16_000)


@dataclass
class FakeLoop:
    """Runs each timer `late_ns` after its time."""

    late_ns: int
    now_ns: int = NS_PER_S
    timers: list = field(default_factory=list)
    futures: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def call_at(self, when_s, callback, *arguments):
        self.timers.append((when_s, callback, arguments))

    def create_future(self):
        return self.futures.create_future()

    def run(self):
        while self.timers:
            when_s, callback, arguments = self.timers.pop(0)
            self.now_ns = max(self.now_ns, round(when_s * NS_PER_S)) + self.late_ns
            callback(*arguments)


@pytest.fixture
def late_loop():
    loop = FakeLoop(late_ns=3 * NS_PER_MS)
    yield loop
    loop.futures.close()


def engine_on(loop: FakeLoop, pace: Pace = STEADY) -> Engine:
    metrics = EngineMetrics(buckets=VLLM_BUCKETS, max_model_len=1000)
    return Engine(Scheduler(CONFIG), metrics, None, loop, monotonic_ns=lambda: loop.now_ns, pace=pace)


def submit(engine: Engine, answer=None) -> Live:
    return engine.submit(
        answer or CollectedAnswer(), request_id="r", received_ns=0, prompt_tokens=50, max_tokens=20, stop_after=None
    )


def planned_ns() -> int:
    """What the request takes if no step is late."""
    scheduler, now_ns = Scheduler(CONFIG), 0
    scheduler.add(Request(id="r", prompt_tokens=50, max_tokens=20))
    while (step := scheduler.next_step(now_ns)) is not None:
        now_ns = step.end_ns
        scheduler.finish_step(step)
    return now_ns


def test_lateness_is_reported_and_does_not_add_up(late_loop):
    engine = engine_on(late_loop)
    start_ns = late_loop.now_ns
    live = submit(engine)
    late_loop.run()
    assert live.done.done()
    # 20 steps, each 3 ms late: the last ends 3 ms late, not 60
    assert late_loop.now_ns - start_ns == pytest.approx(planned_ns() + 3 * NS_PER_MS, abs=2000)
    lateness = dict(line.split(" ") for line in engine.metrics.lateness_s.lines("late", ""))
    assert float(lateness["late_sum{}"]) == pytest.approx(20 * 0.003, abs=1e-5)


def test_an_engine_without_work_starts_anew_when_work_comes(late_loop):
    engine = engine_on(late_loop)
    submit(engine)
    late_loop.run()
    late_loop.now_ns += 5 * NS_PER_S
    start_ns = late_loop.now_ns
    submit(engine)
    late_loop.run()
    assert late_loop.now_ns - start_ns == pytest.approx(planned_ns() + 3 * NS_PER_MS, abs=2000)


def test_an_abort_ends_the_wait_and_frees_the_cache(late_loop):
    engine = engine_on(late_loop)
    live = submit(engine)
    engine.abort(live)
    engine.abort(live)
    late_loop.run()
    with pytest.raises(AbortedError):
        live.done.result()
    assert engine.scheduler.blocks_used == 0
    assert engine.metrics.finished["abort"] == 1


def test_a_slow_client_costs_only_its_own_request(late_loop):
    @dataclass
    class SlowAnswer:
        write_ns: list[int] = field(default_factory=list)
        cached_tokens: int = 0

        def token(self, number: int, finish: FinishReason | None, count: int = 1) -> int:
            if number == 3:
                raise SlowClientError
            return number

    engine = engine_on(late_loop)
    slow, other = submit(engine, SlowAnswer()), submit(engine)
    late_loop.run()
    with pytest.raises(AbortedError):
        slow.done.result()
    assert slow.sequence.generated == 4
    assert other.done.result() is None
    assert other.sequence.generated == 20


def test_during_a_stall_no_step_begins_and_whoever_comes_waits(late_loop):
    late_loop.late_ns = 0
    start_ns = late_loop.now_ns
    engine = engine_on(late_loop, Pace([Stall(for_s=2.0, from_s=1.0)], start_ns=start_ns))
    late_loop.now_ns += 1_500 * NS_PER_MS
    first, second = submit(engine), submit(engine)
    late_loop.run()
    assert first.done.result() is second.done.result() is None
    # they began together when the stall was over: 1 + 2 s after the start
    assert first.sequence.scheduled_ns == second.sequence.scheduled_ns == start_ns + 3 * NS_PER_S


def test_a_slow_engine_takes_so_many_times_as_long(late_loop):
    late_loop.late_ns = 0
    start_ns = late_loop.now_ns
    engine = engine_on(late_loop, Pace([Slow(1.5)], start_ns=start_ns))
    submit(engine)
    late_loop.run()
    assert late_loop.now_ns - start_ns == pytest.approx(1.5 * planned_ns(), rel=1e-4)


def test_an_engine_is_slow_from_the_given_second_on():
    pace = Pace([Slow(2.0, from_s=1.0)], start_ns=100)
    assert pace.duration_ns(100, 50) == 50
    assert pace.duration_ns(100 + NS_PER_S, 50) == 100
