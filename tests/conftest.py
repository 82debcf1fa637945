"""Goldens: `golden("report/terminal.txt", text)` holds a text against tests/goldens/report/terminal.txt."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

threadpool_limits(limits=1, user_api="blas")  # as a run does
# Started in the background (`nohup … &`), tests ignore SIGINT, and all that they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
FOLDER = Path(__file__).parent / "goldens"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the goldens that differ, and fail")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = FOLDER / name
        kept = path.read_text(encoding="utf-8") if path.exists() else None
        if update and text != kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"{path} is rewritten: review it, then run again without --update-golden")
        assert kept is not None, f"{path} is missing: --update-golden writes it"
        assert text == kept

    return compare


@pytest.fixture(autouse=True, scope="session")
def no_calibration_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests find the state folder empty, whatever this machine's user keeps there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
