"""The reference staircases, and our own discrete-event model over the same loads."""

from dataclasses import dataclass
from typing import Any

from loadstair.serving.catalogue import Gpu
from loadstair.serving.memory import memory_budget
from loadstair.serving.steptime import StepModel, expected_request_s
from loadstair.simserver.closedloop import ClosedLoopResult, run_closed_loop
from loadstair.simserver.scheduler import Scheduler, SchedulerConfig
from loadstair.sizing.case import Case
from loadstair.sizing.speed import Speed, speed
from loadstair.units import ns_from_s
from tests.serving.known import gpu as known_gpu
from tests.serving.known import model as known_model
from tests.serving.reference import reference_staircase
from tests.simserver.lengths import lognormal_lengths

MAX_NUM_SEQS = 256
KV_SHARE_MAX = 0.9


QWEN = known_model("Qwen/Qwen2.5-32B-Instruct")


@dataclass(frozen=True)
class Load:
    gpu: Gpu
    engines: int
    tp: int
    input_tokens: int
    output_tokens: int
    users: int
    budget_tokens: int = 8192
    """max_num_batched_tokens."""

    @property
    def below_limits(self) -> bool:
        """Where the closed form is said to hold."""
        room = memory_budget(QWEN, self.gpu, self.tp).kv_tokens * KV_SHARE_MAX
        users = max(1.0, self.users / self.engines)
        return users < MAX_NUM_SEQS and users * (self.input_tokens + self.output_tokens) <= room

    def closed_form(self) -> Speed:
        case = Case(
            model=QWEN,
            concurrent=self.users,
            context_tokens=32768,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            max_num_batched_tokens=self.budget_tokens,
        )
        return speed(case, self.gpu, self.tp, self.engines)

    def simulated(self, rounds: int) -> ClosedLoopResult:
        """`rounds`: mean requests of a user inside the window."""
        link = self.gpu.link
        lengths = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        request_s = expected_request_s(
            QWEN, self.gpu, self.tp, link, engines=self.engines, concurrent=self.users, **lengths
        )
        request_ns = ns_from_s(request_s)
        config = SchedulerConfig(
            step_model=StepModel(QWEN, self.gpu, self.tp, link),
            kv_tokens=memory_budget(QWEN, self.gpu, self.tp).kv_tokens,
            max_num_batched_tokens=self.budget_tokens,
        )
        return run_closed_loop(
            tuple(Scheduler(config) for _ in range(self.engines)),
            users=self.users,
            lengths=lognormal_lengths(self.input_tokens, self.output_tokens, seed=7),
            window_start_ns=2 * request_ns,
            window_end_ns=(2 + rounds) * request_ns,
            user_gap_ns=request_ns // self.users,
        )


def reference_rows() -> list[tuple[Load, dict[str, Any]]]:
    return [(_load(row), row) for row in reference_staircase()]


def _load(row: dict[str, Any]) -> Load:
    return Load(known_gpu(row["gpu"]), row["engines"], row["tp"], row["input"], row["output"], row["users"])
