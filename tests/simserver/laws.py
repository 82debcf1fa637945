"""What the tests of the scheduler share: an engine, requests, and a run that checks what must hold at every step."""

from typing import Any

from loadstair.serving.catalogue import find_gpu, find_model
from loadstair.serving.steptime import StepModel
from loadstair.simserver.scheduler import Request, Scheduler, SchedulerConfig, Step

STEP_MODEL = StepModel(find_model("Qwen/Qwen2.5-32B-Instruct"), find_gpu("h100-nvl"), 2, "nvlink_pairs")
STEPS_MAX = 20_000


def scheduler(kv_tokens: int = 16_000, **settings: Any) -> Scheduler:
    return Scheduler(SchedulerConfig(step_model=STEP_MODEL, kv_tokens=kv_tokens, **settings))


def request(name: str, prompt_tokens: int, max_tokens: int, **more: Any) -> Request:
    return Request(id=name, prompt_tokens=prompt_tokens, max_tokens=max_tokens, **more)


def step(engine: Scheduler) -> Step:
    """The next step, begun and ended."""
    taken = engine.next_step(0)
    assert taken is not None
    engine.finish_step(taken)
    return taken


def run(engine: Scheduler) -> dict[str, int]:
    """To the end: output tokens by request id. Every step keeps to the limits, and at the end nothing is held."""
    tokens: dict[str, int] = {}
    now_ns = 0
    for _ in range(STEPS_MAX):
        taken = engine.next_step(now_ns)
        if taken is None:
            break
        assert taken.shape.tokens <= engine.config.max_num_batched_tokens
        assert len(taken.scheduled) <= engine.config.max_num_seqs
        assert 0 <= engine.blocks_used <= engine.config.blocks
        now_ns = taken.end_ns
        for token in engine.finish_step(taken):
            name = token.sequence.request.id
            tokens[name] = tokens.get(name, 0) + token.tokens
    assert (engine.running, engine.waiting, engine.blocks_used) == (0, 0, 0)
    return tokens
