"""Where a calibration is kept, and when it is used."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadstair.calibrate.machine import cpu_model, machine
from loadstair.calibrate.store import Store, kept_for
from loadstair.errors import StorageError, UsageError
from tests.calibrate.values import MACHINE, calibration, level

UNKNOWN_USER = 12345


def test_what_is_kept_is_read_back_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(calibration(), "<html>")
    assert store.read() == calibration()
    assert kept_for(MACHINE, store).calibration == calibration()
    assert {path.name for path in tmp_path.iterdir()} == {"calibration.json", "calibration.html"}


def test_where_none_was_made_there_is_nothing_to_say(tmp_path: Path) -> None:
    kept = kept_for(MACHINE, Store(tmp_path / "never"))
    assert (kept.calibration, kept.warning) == (None, None)


def test_another_machines_is_not_used_and_the_line_says_what_differs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(calibration(), "")
    kept = kept_for({**MACHINE, "cores": 2, "kernel": "Linux 6.18"}, store)
    assert kept.calibration is None
    assert kept.warning is not None
    assert "cores (8, now 2) and kernel (Linux 6.1, now Linux 6.18)" in kept.warning
    assert "loadstair calibrate" in kept.warning


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", "schema None"),
        ('{"schema": 99}', "schema 99; this version reads 1"),
        ('{"schema": 1, "started": 3}', "damaged: started"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_damaged_file_is_a_line_of_warning(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    kept = kept_for(MACHINE, Store(tmp_path))
    assert kept.calibration is None
    assert kept.warning is not None
    assert words in kept.warning
    assert "\n" not in kept.warning


def test_a_kept_file_in_which_no_level_held_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(calibration(), "")
    values = json.loads(store.path.read_text())
    for one in values["levels"]:
        one["held"] = False
    store.path.write_text(json.dumps(values))
    with pytest.raises(StorageError, match="no level held"):
        store.read()


@pytest.mark.parametrize("rate", ["NaN", "Infinity", "-1.0"])
def test_a_ceiling_that_is_no_rate_is_damaged(tmp_path: Path, rate: str) -> None:
    store = Store(tmp_path)
    store.write(calibration(), "")
    store.path.write_text(
        store.path.read_text().replace('"chunks_per_s": 25600.0,\n "req', f'"chunks_per_s": {rate},\n "req')
    )
    with pytest.raises(StorageError, match="a rate must be a number from 0 on"):
        store.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whom nobody knows")
def test_a_user_without_a_home_folder_has_no_calibration_and_can_measure() -> None:
    code = (
        "import os; from loadstair.calibrate.store import Store, kept_for; "
        f"os.setuid({UNKNOWN_USER}); print(kept_for({{}}, Store.of_user()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=False)
    assert ended.stdout == "Kept(calibration=None, warning=None)\n", ended.stderr


def test_the_folder_is_the_users_state_folder() -> None:
    assert Store.of_user({"XDG_STATE_HOME": "/var/state"}).path == Path("/var/state/loadstair/calibration.json")
    for ignored in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        assert Store.of_user(ignored).folder == Path.home() / ".local/state/loadstair"


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "loadstair").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match="set XDG_STATE_HOME to a folder that can be written"):
        Store.of_user({"XDG_STATE_HOME": str(tmp_path)}).reserved().__enter__()


def test_the_fingerprint_names_the_cpu_and_what_the_load_runs_on(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9454\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9454\n")
    told = machine(cores=3, cpuinfo=cpuinfo)
    assert (told["cpu"], told["cores"]) == ("AMD EPYC 9454", 3)
    assert told.keys() == MACHINE.keys()
    assert cpu_model(tmp_path / "none") != ""


def test_a_calibration_without_a_level_that_held_cannot_be() -> None:
    with pytest.raises(ValueError, match="no ceiling"):
        replace(calibration(), levels=(level(16, held=False),))


def test_two_calibrations_at_once_are_refused(tmp_path: Path) -> None:
    with (
        Store(tmp_path).reserved(),
        pytest.raises(UsageError, match="another `loadstair calibrate` is running"),
        Store(tmp_path).reserved(),
    ):
        pass
    with Store(tmp_path).reserved():  # given back
        pass
