"""The engines' own numbers, once a simulated second: the series that the telemetry reads off a real engine's page."""

from loadstair.forecast.cluster import Cluster
from loadstair.forecast.simulated_time import SimulatedTime
from loadstair.samples.runrecord import ServerCounters
from loadstair.units import NS_PER_S

Row = tuple[int, str, str, str, float]
"""As TELEMETRY_SCHEMA has it."""


class Gauges:
    """Reads at its making and then for as long as time passes, half a second off the whole ones: phases of a plan
    change on those, and a reading at the very change would tell of the phase before."""

    def __init__(self, cluster: Cluster, time: SimulatedTime, *, topology: str) -> None:
        self._cluster = cluster
        self._time = time
        self._topology = topology
        self._rows: list[Row] = []
        self._read()
        time.at(time.now_ns() + NS_PER_S // 2, self._read_on)

    def take_rows(self) -> list[Row]:
        """Those since the last call."""
        taken, self._rows = self._rows, []
        return taken

    def gaps(self) -> tuple[()]:
        """No reading is ever missed."""
        return ()

    def server_counters(self) -> ServerCounters:
        counters = [scheduler.counters for scheduler in self._cluster.answering]
        return ServerCounters(
            requests_finished=sum(one.requests_finished for one in counters),
            output_tokens=sum(one.generation_tokens for one in counters),
            input_tokens=sum(one.prompt_tokens for one in counters),
        )

    def _read(self) -> None:
        now_ns = self._time.now_ns()
        for place, scheduler in enumerate(self._cluster.schedulers):
            values = {
                "engine.requests.running": scheduler.running,
                "engine.requests.waiting": scheduler.waiting,
                "engine.kv.usage": scheduler.blocks_used / scheduler.config.blocks,
                "engine.preemptions": scheduler.counters.preemptions,
                "engine.tokens.prompt": scheduler.counters.prompt_tokens,
                "engine.tokens.generated": scheduler.counters.generation_tokens,
                "engine.requests.finished": scheduler.counters.requests_finished,
            }
            source = f"{self._topology}/engine{place}"
            self._rows += [(now_ns, source, series, "", float(value)) for series, value in values.items()]

    def _read_on(self) -> None:
        self._read()
        self._time.at(self._time.now_ns() + NS_PER_S, self._read_on)
