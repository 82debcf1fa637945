"""The figures of a step in closed form: fast enough to be asked thousands of times.

Only their ratios at two sets of constants are used, so that what the closed form is off by itself cancels.
"""

from collections.abc import Mapping, Sequence

from loadstair.fitting.figures import Figure
from loadstair.forecast.fleet import Fleet
from loadstair.plan.model import LoadMode, Plan, Workload
from loadstair.plan.rules import EXPECTED_IN_FLIGHT_MAX, LITTLE_ROUNDS
from loadstair.serving.efficiencies import Efficiencies
from loadstair.serving.steptime import StepModel, StepShape, throughput_closed_form
from loadstair.simserver.scheduler import SchedulerConfig

MS_PER_S = 1e3


def closed_form(fleet: Fleet, plan: Plan, load: float, efficiencies: Efficiencies) -> Mapping[Figure, float]:
    """Means over the engines, which share the users evenly. In an open loop the load itself sets the tokens a second,
    which are left out; TPOT is where an answer has more than one token."""
    engines = [
        _Engine(engine.scheduler, engine.scheduler.step_model.with_efficiencies(efficiencies), plan.workload)
        for engine in fleet.engines
    ]
    is_open = plan.load.mode is LoadMode.OPEN
    users = (_users_of(engines, load) if is_open else load) / len(engines)
    ttft_s = _mean([engine.ttft_s(users, alone=len(engines) == 1) for engine in engines])
    figures = {Figure.TTFT_MS: ttft_s * MS_PER_S}
    if plan.workload.output_tokens.mean > 1:
        figures[Figure.TPOT_MS] = _mean([engine.tpot_s(users) for engine in engines]) * MS_PER_S
    if not is_open:
        figures[Figure.TOKENS_PER_S] = sum(engine.tokens_per_s(users) for engine in engines)
    return figures


class _Engine:
    def __init__(self, config: SchedulerConfig, step_model: StepModel, workload: Workload) -> None:
        self._step_model = step_model
        self._time_share = config.speed * config.gpu_share
        self._input_tokens = workload.input_tokens.mean
        self._output_tokens = workload.output_tokens.mean
        room = config.kv_tokens / (self._input_tokens + self._output_tokens / 2)
        self._admitted_max = min(config.max_num_seqs, room)

    def tokens_per_s(self, users: float) -> float:
        rate = throughput_closed_form(
            self._step_model,
            concurrent=max(1.0, min(users, self._admitted_max)),
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
        )
        return rate * self._time_share * min(1.0, users)

    def request_s(self, users: float) -> float:
        return users * self._output_tokens / self.tokens_per_s(users)

    def tpot_s(self, users: float) -> float:
        admitted = max(1.0, min(users, self._admitted_max))
        return (self.request_s(admitted) - self._prompt_step_s(admitted)) / (self._output_tokens - 1)

    def ttft_s(self, users: float, *, alone: bool) -> float:
        """The step with the prompt; and with others under way the step before it. To an engine that is `alone` the
        next request comes just after that began, to one of several amid it."""
        admitted = max(1.0, min(users, self._admitted_max))
        waited_steps = 0.0 if admitted == 1 else 1.0 if alone else 0.5
        waited_s = self.request_s(admitted) / self._output_tokens * waited_steps
        return self._prompt_step_s(admitted) + waited_s

    def _prompt_step_s(self, users: float) -> float:
        rows = max(0, round(users) - 1)
        shape = StepShape(
            prefill=((max(1, round(self._input_tokens)), 0),),
            decode_rows=rows,
            decode_context_tokens=round(rows * (self._input_tokens + self._output_tokens / 2)),
            sampled_rows=rows + 1,
        )
        return self._step_model.step_s(shape) / self._time_share


def _users_of(engines: Sequence[_Engine], requests_per_s: float) -> float:
    """As many are under way as come in while one is served (Little's law)."""
    users = 1.0
    for _ in range(LITTLE_ROUNDS):
        request_s = _mean([engine.request_s(users / len(engines)) for engine in engines])
        users = min(max(1.0, requests_per_s * request_s), EXPECTED_IN_FLIGHT_MAX)
    return users


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
