"""Where a run is and how long it will take: a bar with the time left on a terminal, plain lines in a pipe."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadstair.clock import monotonic_ns
from loadstair.units import s_from_ns


class Progress:
    """Written to by the pipeline only. `quiet` keeps everything but errors away."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = (
            Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and not quiet else None
        )
        self._begun_ns = self._step_ns = monotonic_ns()
        self._expected_s = 0.0
        self._done_s = 0.0
        self._phase = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether what is said to `phase` is shown."""
        return self._live is not None

    def begin(self, expected_s: float) -> None:
        self._begun_ns = self._step_ns = monotonic_ns()
        self._expected_s = expected_s

    def say(self, message: str) -> None:
        """One line worth keeping. Where it cannot be written (a full disk behind `>`), the run goes on unsaid."""
        if self._quiet:
            return
        try:
            self._console.print(Text(message), soft_wrap=True)
        except OSError:
            self._quiet = True

    def step_done(self, message: str, expected_s: float) -> None:
        """A finished step and the time forecast for it: what is left is scaled by how the forecast held so far."""
        self._done_s += expected_s
        self._step_ns = monotonic_ns()
        self.say(f"{message}, {self._left()}")

    def skip(self, message: str, expected_s: float) -> None:
        """Steps that are left out, and the time forecast for them."""
        self._expected_s -= expected_s
        self.say(f"{message}, {self._left()}")

    def phase(self, text: str) -> None:
        """What goes on now; a terminal shows it beside the bar, a pipe does not."""
        self._phase = text
        if self._live is not None:
            self._live.update(self._line())

    def left_s(self) -> float:
        """Forecast of the rest of the measurement: what was forecast for it, times how long the finished steps took
        for each second of their forecast."""
        pace = s_from_ns(self._step_ns - self._begun_ns) / self._done_s if self._done_s > 0 else 1.0
        return max(0.0, (self._expected_s - self._done_s) * pace - self._in_step_s())

    def _in_step_s(self) -> float:
        return s_from_ns(monotonic_ns() - self._step_ns)

    def _left(self) -> str:
        minutes, seconds = divmod(round(self.left_s()), 60)
        return f"{minutes}:{seconds:02d} left"

    def _line(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._expected_s, 1e-9), completed=self._done_s + self._in_step_s(), width=30)
        grid.add_row(bar, Text(self._left()), Text(self._phase, overflow="ellipsis", no_wrap=True))
        return grid
