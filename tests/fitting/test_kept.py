"""The file of fitted constants: what is written is read, and what is no such file is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadstair.errors import UsageError
from loadstair.fitting.kept import KeptFactor, KeptFit, kept_text, read_kept
from loadstair.serving.efficiencies import FITTED

KEPT = KeptFit(
    run="nightly",
    started="2026-11-20T10:00:00+00:00",
    fitted="2026-11-21T10:00:00+00:00",
    loadstair_version="0.1.0",
    model="Qwen/Qwen2.5-32B-Instruct",
    gpus=("h100-nvl",),
    tensor_parallel=(2, 4),
    error_before=0.2,
    error_after=0.012,
    factors={"bandwidth": KeptFactor(value=0.8, low=0.75, high=0.85, held=False)},
    efficiencies=replace(FITTED, gemm_bandwidth=0.7),
)


def write(path: Path, **changes: Any) -> Path:
    raw = json.loads(kept_text(KEPT))
    path.write_text(json.dumps(raw | changes), encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fitted.json"
    path.write_text(kept_text(KEPT), encoding="utf-8")
    assert read_kept(path) == KEPT


def test_it_says_what_it_was_fitted_to_and_how_well_it_holds_there() -> None:
    (line,) = KEPT.notes("Qwen/Qwen2.5-32B-Instruct", ["h100-nvl"], [4])
    assert line == (
        "the constants of the step times are fitted to nightly of 2026-11-20 (Qwen/Qwen2.5-32B-Instruct on h100-nvl, "
        "tp 2 and 4); there the forecast was off by 1.2% on average, by 20.0% with those that are shipped"
    )


def test_it_says_for_which_engines_nobody_measured_it() -> None:
    _, line = KEPT.notes("Qwen/Qwen2.5-7B-Instruct", ["h100-nvl", "l40s"], [1, 2])
    assert line == "whether these constants hold for l40s and Qwen/Qwen2.5-7B-Instruct and tp 1 was not measured"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2; this version reads 1"),
        ({"efficiencies": {"gemm_bandwidth": 1.2}}, "efficiencies.gemm_bandwidth: must be a share above 0, up to 1"),
        ({"efficiencies": {"gemm_peak": 0}}, "efficiencies.gemm_peak: must be a share above 0, up to 1, not 0"),
        ({"efficiencies": {"cpu_step_s": -1}}, "efficiencies.cpu_step_s: must be at least 0, not -1"),
        ({"efficiencies": {"gemm_peak": "fast"}}, "efficiencies.gemm_peak: "),
        ({"efficiencies": {"magic": 1.0}}, "efficiencies.magic: "),
        ({"gpus": None}, "gpus: "),
    ],
)
def test_constants_that_no_gpu_can_have_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "fitted.json", **changes)
    with pytest.raises(UsageError) as refused:
        read_kept(path)
    assert str(refused.value).startswith(f"--efficiencies {path}: {words}")


@pytest.mark.parametrize(("text", "words"), [("[]", "schema None"), ("{", "it is no JSON"), (None, "cannot be read")])
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "fitted.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_kept(path)
