"""Where a run is: plain lines in a pipe, a bar with the time left on a terminal."""

from io import StringIO

import pytest
from rich.console import Console

from loadstair.progress import Progress


def progress_on(out: StringIO, *, terminal: bool = False, quiet: bool = False) -> Progress:
    return Progress(Console(file=out, width=120, force_terminal=terminal, color_system=None), quiet=quiet)


def test_a_pipe_gets_one_plain_line_for_each_step_with_the_time_left() -> None:
    out = StringIO()
    with progress_on(out) as progress:
        progress.begin(expected_s=100)
        progress.phase("warming up")
        progress.step_done("step 1", expected_s=100)
    assert out.getvalue() == "step 1, 0:00 left\n"  # nothing is left of 100 s after 100 s of them


def test_quiet_says_nothing() -> None:
    out = StringIO()
    with progress_on(out, quiet=True) as progress:
        progress.begin(expected_s=100)
        progress.step_done("step 1", expected_s=50)
    assert out.getvalue() == ""


def test_before_the_first_step_the_forecast_is_what_is_left() -> None:
    progress = progress_on(StringIO())
    progress.begin(expected_s=1e9)
    assert progress.left_s() == pytest.approx(1e9)  # the seconds since then do not show


def test_a_terminal_shows_the_phase_beside_the_bar_and_takes_it_away_at_the_end() -> None:
    out = StringIO()
    with progress_on(out, terminal=True) as progress:
        progress.begin(expected_s=100)
        progress.phase("tp4: 8 users, hold 3 s")
    assert "tp4: 8 users, hold 3 s" in out.getvalue()
    assert out.getvalue().rstrip("\x1b[?25h").endswith("\x1b[2K")  # the line is erased


def test_square_brackets_are_no_markup() -> None:
    out = StringIO()
    with progress_on(out) as progress:
        progress.say("[bold]a[/bold]")
    assert out.getvalue() == "[bold]a[/bold]\n"
